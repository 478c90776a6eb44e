#include "server/store/slab.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr int64_t kChunkBytes = int64_t{64} << 20;
constexpr int64_t kPageBytes = 4096;

}  // namespace

Slab::Slab(int64_t floats_per_record)
    : floats_per_record_(floats_per_record),
      records_per_chunk_(std::max<int64_t>(1, kChunkBytes / (floats_per_record * static_cast<int64_t>(sizeof(float))))) {}

absl::Status Slab::AddChunk() {
  const int64_t bytes = records_per_chunk_ * floats_per_record_ * static_cast<int64_t>(sizeof(float));
  Chunk chunk{HugePages(bytes), nullptr};
  if (chunk.pages.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for more rows: mmap of ", bytes, " bytes: ", std::strerror(errno)));
  }
  // Not value-initialized: Take() sets each, so that untouched ones take no memory.
  chunk.last_step.reset(new int64_t[records_per_chunk_]);
  chunks_.push_back(std::move(chunk));
  return absl::OkStatus();
}

absl::Status Slab::Ensure(int64_t count) {
  const int64_t fresh = count - static_cast<int64_t>(free_.size());
  if (fresh > kMaxRecords - next_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no more than ", kMaxRecords, " rows fit one shard; ", next_, " are there, ", fresh, " more are needed"));
  }
  while (next_ + fresh > static_cast<int64_t>(chunks_.size()) * records_per_chunk_) {
    if (absl::Status status = AddChunk(); !status.ok()) return status;
  }
  // Return() must not allocate after a vote: there is room for every record that may come back.
  free_.reserve(free_.size() + std::max<int64_t>(count, 0));
  return absl::OkStatus();
}

void Slab::Prefault(int64_t count) {
  const int64_t end = next_ + count - static_cast<int64_t>(free_.size());
  for (int64_t record = std::max(touched_, next_); record < end;) {
    const int64_t chunk_end = std::min<int64_t>(end, (record / records_per_chunk_ + 1) * records_per_chunk_);
    char* begin = reinterpret_cast<char*>(At(record));
    char* last = begin + (chunk_end - record) * floats_per_record_ * sizeof(float);
    for (char* page = begin; page < last; page += kPageBytes) *static_cast<volatile char*>(page) = 0;
    *static_cast<volatile char*>(last - 1) = 0;
    record = chunk_end;
  }
  touched_ = std::max(touched_, end);
}

void Slab::Trim(int64_t count) {
  if (count >= touched_) return;
  free_.erase(std::remove_if(free_.begin(), free_.end(), [count](uint32_t record) { return record >= count; }), free_.end());
  for (int64_t chunk = count / records_per_chunk_; chunk < static_cast<int64_t>(chunks_.size()); ++chunk) {
    const int64_t kept = std::max<int64_t>(0, count - chunk * records_per_chunk_);
    const int64_t kept_bytes = kept * floats_per_record_ * static_cast<int64_t>(sizeof(float));
    // Whole pages alone: one that is shared with a record before it stays.
    const int64_t from = (kept_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    const int64_t bytes = records_per_chunk_ * floats_per_record_ * static_cast<int64_t>(sizeof(float));
    if (from < bytes) madvise(reinterpret_cast<char*>(chunks_[chunk].pages.data()) + from, bytes - from, MADV_DONTNEED);
  }
  next_ = std::min(next_, count);
  touched_ = count;
}

uint32_t Slab::Take() {
  uint32_t record;
  if (!free_.empty()) {
    record = free_.back();
    free_.pop_back();
  } else {
    record = static_cast<uint32_t>(next_++);
    touched_ = std::max(touched_, next_);
  }
  LastStep(record) = -1;
  return record;
}

}  // namespace myriad
