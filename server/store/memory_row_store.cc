#include "server/store/memory_row_store.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "head/virtual_rows.h"

namespace myriad {
namespace {

constexpr int64_t kPrefetchDistance = 8;
// Rows a thread takes at a time.
constexpr int64_t kRowGrain = 64;
// What a row takes beside its record: its step, its entry in the table and what a pin keeps of it.
constexpr int64_t kBytesBesideRecord = 8 + 20 + 32;

}  // namespace

MemoryRowStore::MemoryRowStore(const Options& options)
    : head_(options.head),
      partitions_(options.head.class_count, options.head.seed, options.head.partition_count),
      limits_(options.head.name, options.max_rows, options.available_memory),
      dim_(options.head.embedding_dim),
      slab_(dim_ * (1 + options.head.slots_per_row)) {}

int64_t MemoryRowStore::BytesOfNewRows(int64_t row_count) const {
  const int64_t untouched = std::max<int64_t>(0, row_count - (reserved_row_count() - this->row_count()));
  return untouched * (dim_ * (1 + head_.slots_per_row) * static_cast<int64_t>(sizeof(float)) + kBytesBesideRecord);
}

absl::Status MemoryRowStore::Acquire(absl::Span<const int64_t> class_ids) {
  const int64_t count = class_ids.size();
  try {
    pinned_.resize(count);
    weights_.resize(count);
    slots_.resize(count);
    new_ids_.clear();
    new_indices_.clear();
    for (int64_t i = 0; i < std::min(kPrefetchDistance, count); ++i) table_.Prefetch(class_ids[i]);
    for (int64_t i = 0; i < count; ++i) {
      if (i + kPrefetchDistance < count) table_.Prefetch(class_ids[i + kPrefetchDistance]);
      pinned_[i] = table_.Find(class_ids[i]);
      if (pinned_[i] == RowTable::kNone) {
        new_ids_.push_back(class_ids[i]);
        new_indices_.push_back(i);
      }
    }
    absl::Status status = limits_.CheckRows(new_ids_.size(), table_.size());
    if (status.ok() && !new_ids_.empty()) {
      // All of it before any is taken: address space is always there, and the kernel kills who writes to more than there is memory for.
      status = limits_.CheckMemory(BytesOfNewRows(new_ids_.size()), absl::StrCat(new_ids_.size(), " new rows"));
      if (status.ok()) status = slab_.Ensure(new_ids_.size());
      if (status.ok()) table_.ReserveFor(new_ids_);
    }
    if (!status.ok()) {
      ForgetPin();
      return status;
    }
  } catch (const std::bad_alloc&) {
    ForgetPin();
    return absl::ResourceExhaustedError(absl::StrCat("head '", head_.name, "': no memory to look up ", count, " rows"));
  }
  for (uint32_t index : new_indices_) pinned_[index] = slab_.Take();
  for (int64_t i = 0; i < count; ++i) {
    weights_[i] = slab_.At(pinned_[i]);
    slots_[i] = weights_[i] + dim_;
  }
  return absl::OkStatus();
}

absl::Status MemoryRowStore::Pin(absl::Span<const int64_t> class_ids, PinnedRows* rows) {
  if (absl::Status status = Acquire(class_ids); !status.ok()) return status;
  // First touch of the new records happens here as well, spread over the threads.
  at::parallel_for(0, new_ids_.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* record = weights_[new_indices_[i]];
      FillVirtualRow(head_, new_ids_[i], record);
      std::memset(record + dim_, 0, dim_ * head_.slots_per_row * sizeof(float));
    }
  });
  UpdateCounts();
  rows->weights = weights_;
  rows->slots = slots_;
  return absl::OkStatus();
}

void MemoryRowStore::ForgetPin() {
  pinned_.clear();
  new_ids_.clear();
  new_indices_.clear();
}

void MemoryRowStore::InsertNew() {
  for (size_t i = 0; i < new_ids_.size(); ++i) table_.Insert(new_ids_[i], pinned_[new_indices_[i]]);
  ForgetPin();
  UpdateCounts();
}

void MemoryRowStore::Commit(int64_t step) {
  for (uint32_t record : pinned_) slab_.LastStep(record) = step;
  InsertNew();
}

void MemoryRowStore::Unpin() {
  for (uint32_t index : new_indices_) slab_.Return(pinned_[index]);
  ForgetPin();
}

absl::Status MemoryRowStore::Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists,
                                  int64_t* last_step) const {
  const int64_t slot_floats = dim_ * head_.slots_per_row;
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t record = table_.Find(class_ids[i]);
      const bool found = record != RowTable::kNone;
      if (found) {
        std::memcpy(weights + i * dim_, slab_.At(record), dim_ * sizeof(float));
        if (slots != nullptr) std::memcpy(slots + i * slot_floats, slab_.At(record) + dim_, slot_floats * sizeof(float));
      } else {
        FillVirtualRow(head_, class_ids[i], weights + i * dim_);
        if (slots != nullptr) std::memset(slots + i * slot_floats, 0, slot_floats * sizeof(float));
      }
      if (exists != nullptr) exists[i] = found;
      if (last_step != nullptr) last_step[i] = found ? slab_.LastStep(record) : -1;
    }
  });
  return absl::OkStatus();
}

absl::Status MemoryRowStore::Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) {
  if (absl::Status status = Acquire(class_ids); !status.ok()) return status;
  const int64_t slot_floats = dim_ * head_.slots_per_row;
  for (size_t i = 0; i < class_ids.size(); ++i) {
    std::memcpy(weights_[i], weights + i * dim_, dim_ * sizeof(float));
    if (slots != nullptr) {
      std::memcpy(slots_[i], slots + i * slot_floats, slot_floats * sizeof(float));
    } else {
      std::memset(slots_[i], 0, slot_floats * sizeof(float));
    }
    slab_.LastStep(pinned_[i]) = -1;
  }
  InsertNew();
  return absl::OkStatus();
}

int64_t MemoryRowStore::ClassOfKey(int64_t key) const { return partitions_.ClassAt(PlaceOfKey(key)); }

std::vector<int64_t> MemoryRowStore::ScanKeys(int64_t after, int64_t max_keys) const {
  // The smallest `max_keys` keys above `after`: collect up to twice as many, then keep the lower half; memory stays O(max_keys).
  std::vector<int64_t> keys;
  int64_t bound = std::numeric_limits<int64_t>::max();
  const auto shrink = [&] {
    if (static_cast<int64_t>(keys.size()) <= max_keys) return;
    std::nth_element(keys.begin(), keys.begin() + max_keys - 1, keys.end());
    keys.resize(max_keys);
    bound = keys.back();
  };
  table_.ForEach([&](int64_t class_id, uint32_t) {
    const int64_t key = KeyOfPlace(partitions_.Locate(class_id));
    if (key <= after || key > bound) return;
    keys.push_back(key);
    if (static_cast<int64_t>(keys.size()) >= 2 * max_keys) shrink();
  });
  shrink();
  std::sort(keys.begin(), keys.end());
  return keys;
}

absl::Status MemoryRowStore::Reserve(int64_t row_count) {
  if (row_count < 0) return absl::InvalidArgumentError(absl::StrCat("row_count ", row_count, " is negative"));
  if (absl::Status status = limits_.CheckRows(row_count, table_.size()); !status.ok()) return status;
  if (row_count > Slab::kMaxRecords) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no more than ", Slab::kMaxRecords, " rows fit one shard; ", row_count, " are asked for"));
  }
  if (absl::Status status = limits_.CheckMemory(BytesOfNewRows(row_count), absl::StrCat(row_count, " reserved rows")); !status.ok())
    return status;
  try {
    if (absl::Status status = slab_.Ensure(row_count); !status.ok()) return status;
    table_.Reserve(row_count);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a table of ", row_count, " more rows"));
  }
  slab_.Prefault(row_count);
  UpdateCounts();
  return absl::OkStatus();
}

void MemoryRowStore::UpdateCounts() {
  row_count_.store(table_.size(), std::memory_order_relaxed);
  reserved_.store(slab_.touched_count(), std::memory_order_relaxed);
}

}  // namespace myriad
