#include "server/store/write_back_queue.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

// Between two tries at what the disk refuses.
constexpr absl::Duration kRetryPause = absl::Milliseconds(200);

}  // namespace

WriteBackQueue::WriteBackQueue(ColdStore* cold, int64_t record_bytes, int64_t capacity, absl::Duration gather)
    : cold_(cold),
      record_bytes_(record_bytes),
      capacity_(capacity),
      gather_(gather),
      batch_records_(std::max<int64_t>(1, std::min(kWriteBackBatchBytes / record_bytes, capacity / 2))),
      bytes_(new std::byte[record_bytes * capacity]),
      slots_(capacity) {
  free_.reserve(capacity);
  for (int64_t slot = capacity - 1; slot >= 0; --slot) free_.push_back(static_cast<uint32_t>(slot));
  newest_.reserve(capacity);
  thread_ = std::thread([this] { Run(); });
}

WriteBackQueue::~WriteBackQueue() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status WriteBackQueue::Add(RowKey key, int64_t step, const std::byte* bytes) {
  absl::MutexLock lock(&mu_);
  if (!HasRoom()) {
    const absl::Time start = absl::Now();
    AwaitUnlessItFails(&WriteBackQueue::HasRoom);
    wait_seconds_ += absl::ToDoubleSeconds(absl::Now() - start);
  }
  if (free_.empty()) return failed_;
  Put(key, step, bytes);
  return absl::OkStatus();
}

bool WriteBackQueue::TryAdd(RowKey key, int64_t step, const std::byte* bytes) {
  absl::MutexLock lock(&mu_);
  if (free_.empty()) return false;
  Put(key, step, bytes);
  return true;
}

void WriteBackQueue::Put(RowKey key, int64_t step, const std::byte* bytes) {
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = {key, step};
  std::memcpy(BytesOf(slot), bytes, record_bytes_);
  waiting_.push_back(slot);
  newest_[key] = slot;
}

bool WriteBackQueue::Find(RowKey key, std::byte* bytes, int64_t* step) const {
  absl::MutexLock lock(&mu_);
  const auto found = newest_.find(key);
  if (found == newest_.end()) return false;
  std::memcpy(bytes, BytesOf(found->second), record_bytes_);
  *step = slots_[found->second].step;
  return true;
}

absl::Status WriteBackQueue::Drain() {
  absl::MutexLock lock(&mu_);
  ++draining_;
  AwaitUnlessItFails(&WriteBackQueue::IsIdle);
  --draining_;
  return IsIdle() ? absl::OkStatus() : failed_;
}

void WriteBackQueue::AwaitUnlessItFails(bool (WriteBackQueue::*done)() const) {
  // What the disk refused last may be some time ago.
  hurry_ = true;
  const auto over = [this, done, begun = begun_] {
    mu_.AssertHeld();
    return (this->*done)() || (ended_ > begun && !failed_.ok());
  };
  mu_.Await(absl::Condition(&over));
}

WriteBackQueue::Statistics WriteBackQueue::statistics() const {
  absl::MutexLock lock(&mu_);
  return {capacity_ - static_cast<int64_t>(free_.size()), wait_seconds_};
}

void WriteBackQueue::Run() {
  std::vector<uint32_t> batch;
  std::vector<ColdStore::Record> records;
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &WriteBackQueue::HasWork));
      mu_.AwaitWithTimeout(absl::Condition(this, &WriteBackQueue::HasBatch), gather_);
      if (stopping_) return;
      batch.assign(waiting_.begin(), waiting_.begin() + std::min<size_t>(batch_records_, waiting_.size()));
      waiting_.erase(waiting_.begin(), waiting_.begin() + batch.size());
      records.clear();
      for (const uint32_t slot : batch) {
        // An older one of the same key needs no write of its own.
        if (newest_.at(slots_[slot].key) == slot)
          records.push_back({static_cast<uint64_t>(slots_[slot].key), slots_[slot].step, BytesOf(slot)});
      }
      writing_ = static_cast<int64_t>(batch.size());
    }
    std::sort(records.begin(), records.end(), [](const ColdStore::Record& a, const ColdStore::Record& b) { return a.key < b.key; });
    if (!WriteAll(records)) return;
    absl::MutexLock lock(&mu_);
    writing_ = 0;
    for (const uint32_t slot : batch) {
      const auto newest = newest_.find(slots_[slot].key);
      if (newest != newest_.end() && newest->second == slot) newest_.erase(newest);
      free_.push_back(slot);
    }
  }
}

absl::Status WriteBackQueue::TryToWrite(absl::Span<const ColdStore::Record> records) {
  try {
    return cold_->Write(records);
  } catch (const std::exception& error) {  // For want of memory, or of threads.
    return absl::ResourceExhaustedError(absl::StrCat("writing ", records.size(), " rows: ", error.what()));
  }
}

bool WriteBackQueue::WriteAll(absl::Span<const ColdStore::Record> records) {
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      ++begun_;
      hurry_ = false;
    }
    const absl::Status status = TryToWrite(records);
    absl::MutexLock lock(&mu_);
    failed_ = status;
    ended_ = begun_;
    if (status.ok()) return true;
    mu_.AwaitWithTimeout(absl::Condition(this, &WriteBackQueue::MustNotRest), kRetryPause);
    if (stopping_) return false;
  }
}

}  // namespace myriad
