#include "server/store/tiered_row_store.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

constexpr int64_t kPrefetchDistance = 8;
// Rows a thread takes at a time.
constexpr int64_t kRowGrain = 64;
// Rows read or written outside of steps at a time.
constexpr int64_t kReadBatch = 4096;
// Step, class and flags of a record, and its entry in the table.
constexpr int64_t kBytesBesideRecord = 40;

int64_t FloatsOf(int64_t bytes) { return (bytes + static_cast<int64_t>(sizeof(float)) - 1) / static_cast<int64_t>(sizeof(float)); }

}  // namespace

TieredRowStore::TieredRowStore(const Options& options, std::unique_ptr<ColdStore> cold, std::unique_ptr<PresenceBitmap> presence)
    : options_(options),
      partitions_(options.head.class_count, options.head.seed, options.head.partition_count),
      codec_(options.head),
      limits_(options.head.name, options.max_rows, options.available_memory),
      dim_(options.head.embedding_dim),
      slot_floats_(dim_ * options.head.slots_per_row),
      cold_(std::move(cold)),
      presence_(std::move(presence)),
      slab_(FloatsOf(codec_.record_bytes())) {
  if (cold_ != nullptr) queue_ = std::make_unique<WriteBackQueue>(cold_.get(), codec_.record_bytes(), options_.queue_records);
  UpdateCounts();
}

TieredRowStore::~TieredRowStore() = default;

int64_t TieredRowStore::BytesOfNewRows(int64_t row_count) const {
  int64_t records = slab_rows_.load(std::memory_order_relaxed) + row_count;
  if (options_.slab_records > 0) records = std::min(records, options_.slab_records);
  return std::max<int64_t>(0, records - touched_.load(std::memory_order_relaxed)) * (codec_.record_bytes() + kBytesBesideRecord);
}

absl::Status TieredRowStore::Evict(int64_t records) {
  const int64_t taken = static_cast<int64_t>(class_of_.size());
  // Twice round: the first pass takes the marks of use off, the second finds a record unless all are pinned.
  for (int64_t looked = 0; records > 0 && looked < 2 * taken; ++looked, hand_ = hand_ + 1 == taken ? 0 : hand_ + 1) {
    uint8_t& flags = flags_[hand_];
    if (class_of_[hand_] < 0 || (flags & kPinned) != 0) continue;
    if ((flags & kUsed) != 0) {
      flags &= ~kUsed;
      continue;
    }
    if ((flags & kDirty) != 0) {
      absl::Status status = queue_->Add(KeyOf(class_of_[hand_]), slab_.LastStep(hand_), RecordAt(hand_));
      if (!status.ok()) return status;
      --statistics_.dirty_rows;
    }
    table_.Erase(class_of_[hand_]);
    class_of_[hand_] = -1;
    flags = 0;
    slab_.Return(hand_);
    ++statistics_.evicted;
    --records;
  }
  if (records > 0) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': the rows of one step do not fit the ",
                                                     options_.slab_records, " rows that --memory leaves for the slab; ", records,
                                                     " are too many"));
  }
  return absl::OkStatus();
}

absl::Status TieredRowStore::MakeRoom(int64_t records) {
  const int64_t used = table_.size();
  if (options_.slab_records > 0 && used + records > options_.slab_records) {
    const int64_t over = used + records - options_.slab_records;
    if (cold_ == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': ", records, " more rows beside ", used,
                                                       " do not fit the ", options_.slab_records,
                                                       " rows that --memory holds; give more, or a disk with --store"));
    }
    if (absl::Status status = Evict(over); !status.ok()) return status;
  }
  if (absl::Status status = slab_.Ensure(records); !status.ok()) return status;
  const size_t most = class_of_.size() + records;
  if (most > class_of_.capacity()) {
    class_of_.reserve(most + most / 4);
    flags_.reserve(most + most / 4);
  }
  return absl::OkStatus();
}

// Rows that exist and are not in the slab.
absl::Status TieredRowStore::ReadElsewhere(absl::Span<ColdStore::Target> targets) const {
  std::vector<ColdStore::Target*> on_disk;
  for (ColdStore::Target& target : targets) {
    if (!queue_->Find(static_cast<RowKey>(target.key), target.bytes, &target.step)) on_disk.push_back(&target);
  }
  std::sort(on_disk.begin(), on_disk.end(), [](const ColdStore::Target* a, const ColdStore::Target* b) { return a->key < b->key; });
  std::vector<ColdStore::Target> sorted;
  sorted.reserve(on_disk.size());
  for (const ColdStore::Target* target : on_disk) sorted.push_back(*target);
  if (absl::Status status = cold_->Read(absl::MakeSpan(sorted)); !status.ok()) return status;
  for (size_t i = 0; i < sorted.size(); ++i) on_disk[i]->step = sorted[i].step;
  return absl::OkStatus();
}

absl::Status TieredRowStore::LoadStored() {
  if (stored_.empty()) return absl::OkStatus();
  const absl::Time start = absl::Now();
  std::vector<ColdStore::Target> targets;
  targets.reserve(stored_.size());
  for (const uint32_t index : stored_) {
    targets.push_back({static_cast<uint64_t>(KeyOf(pinned_ids_[index])), RecordAt(pinned_[index]), 0});
  }
  const absl::Status status = ReadElsewhere(absl::MakeSpan(targets));
  for (size_t i = 0; status.ok() && i < targets.size(); ++i) slab_.LastStep(pinned_[stored_[i]]) = targets[i].step;
  statistics_.disk_wait_seconds += absl::ToDoubleSeconds(absl::Now() - start);
  return status;
}

absl::Status TieredRowStore::Acquire(absl::Span<const int64_t> class_ids, bool load) {
  const int64_t count = class_ids.size();
  absl::Status status;
  try {
    pinned_ids_.assign(class_ids.begin(), class_ids.end());
    pinned_.assign(count, RowTable::kNone);
    origins_.assign(count, Origin::kSlab);
    stored_.clear();
    virtual_.clear();
    weights_.resize(count);
    slots_.resize(count);
    for (int64_t i = 0; i < std::min(kPrefetchDistance, count); ++i) table_.Prefetch(class_ids[i]);
    for (int64_t i = 0; i < count; ++i) {
      if (i + kPrefetchDistance < count) table_.Prefetch(class_ids[i + kPrefetchDistance]);
      pinned_[i] = table_.Find(class_ids[i]);
      if (pinned_[i] != RowTable::kNone) {
        flags_[pinned_[i]] |= kPinned | kUsed;
        continue;
      }
      const RowKey key = KeyOf(class_ids[i]);
      const bool exists = cold_ != nullptr && presence_->Test(key);
      origins_[i] = exists ? Origin::kStored : Origin::kVirtual;
      (exists ? stored_ : virtual_).push_back(static_cast<uint32_t>(i));
      if (!exists) presence_->MakeRoom(key);
    }
    status = limits_.CheckRows(virtual_.size(), presence_->count());
    const int64_t absent = static_cast<int64_t>(stored_.size() + virtual_.size());
    if (status.ok()) status = limits_.CheckMemory(BytesOfNewRows(absent), absl::StrCat(absent, " more rows in memory"));
    if (status.ok() && absent > 0) status = MakeRoom(absent);
    if (status.ok() && absent > 0) {
      std::vector<int64_t> absent_ids;
      absent_ids.reserve(absent);
      for (const std::vector<uint32_t>* indices : {&stored_, &virtual_}) {
        for (const uint32_t index : *indices) absent_ids.push_back(class_ids[index]);
      }
      table_.ReserveFor(absent_ids);
    }
    if (status.ok() && !codec_.in_place() && load) widened_.resize(count * (dim_ + slot_floats_));
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': no memory to look up ", count, " rows"));
  }
  if (!status.ok()) {
    EndPin();
    return status;
  }
  for (const std::vector<uint32_t>* indices : {&stored_, &virtual_}) {
    for (const uint32_t index : *indices) {
      pinned_[index] = slab_.Take();
      if (pinned_[index] >= class_of_.size()) {
        class_of_.resize(pinned_[index] + 1, -1);
        flags_.resize(pinned_[index] + 1, 0);
      }
    }
  }
  if (load) status = LoadStored();
  if (!status.ok()) {
    ReturnRecords();
    EndPin();
  }
  return status;
}

// Those of rows that are not in the table.
void TieredRowStore::ReturnRecords() {
  for (size_t i = 0; i < pinned_.size(); ++i) {
    if (origins_[i] == Origin::kSlab) continue;
    slab_.Return(pinned_[i]);
    pinned_[i] = RowTable::kNone;
  }
}

void TieredRowStore::EndPin() {
  for (const uint32_t record : pinned_) {
    if (record != RowTable::kNone && record < flags_.size()) flags_[record] &= ~kPinned;
  }
  pinned_ids_.clear();
  pinned_.clear();
  origins_.clear();
  stored_.clear();
  virtual_.clear();
}

absl::Status TieredRowStore::Pin(absl::Span<const int64_t> class_ids, PinnedRows* rows) {
  if (absl::Status status = Acquire(class_ids, /*load=*/true); !status.ok()) return status;
  statistics_.hits += static_cast<int64_t>(class_ids.size() - stored_.size() - virtual_.size());
  statistics_.misses += static_cast<int64_t>(stored_.size());
  statistics_.created += static_cast<int64_t>(virtual_.size());
  // First touch of new records happens here as well, spread over the threads.
  at::parallel_for(0, virtual_.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) codec_.EncodeVirtual(class_ids[virtual_[i]], RecordAt(pinned_[virtual_[i]]));
  });
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (codec_.in_place()) {
        weights_[i] = reinterpret_cast<float*>(RecordAt(pinned_[i]));
      } else {
        weights_[i] = widened_.data() + i * (dim_ + slot_floats_);
        codec_.Decode(RecordAt(pinned_[i]), weights_[i], weights_[i] + dim_);
      }
      slots_[i] = weights_[i] + dim_;
    }
  });
  UpdateCounts();
  rows->weights = weights_;
  rows->slots = slots_;
  return absl::OkStatus();
}

void TieredRowStore::Insert(bool with_virtual) {
  const auto insert = [&](uint32_t index) {
    table_.Insert(pinned_ids_[index], pinned_[index]);
    class_of_[pinned_[index]] = pinned_ids_[index];
    flags_[pinned_[index]] = kUsed;
  };
  for (const uint32_t index : stored_) insert(index);
  if (!with_virtual) return;
  for (const uint32_t index : virtual_) {
    insert(index);
    presence_->Set(KeyOf(pinned_ids_[index]));
  }
}

void TieredRowStore::MarkChanged(int64_t step) {
  for (const uint32_t record : pinned_) {
    slab_.LastStep(record) = step;
    if ((flags_[record] & kDirty) == 0) ++statistics_.dirty_rows;
    flags_[record] |= kDirty;
  }
}

void TieredRowStore::Commit(int64_t step) {
  Insert(/*with_virtual=*/true);
  if (!codec_.in_place()) {
    at::parallel_for(0, pinned_.size(), kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) codec_.EncodeStep(step, pinned_ids_[i], weights_[i], slots_[i], RecordAt(pinned_[i]));
    });
  }
  MarkChanged(step);
  EndPin();
  UpdateCounts();
}

void TieredRowStore::Unpin() {
  // Rows that were read stay, as the disk has them.
  Insert(/*with_virtual=*/false);
  for (const uint32_t index : virtual_) {
    slab_.Return(pinned_[index]);
    pinned_[index] = RowTable::kNone;
  }
  EndPin();
  UpdateCounts();
}

absl::Status TieredRowStore::Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists,
                                  int64_t* last_step) const {
  // Rows in the slab and virtual ones at once; those elsewhere afterwards.
  std::vector<uint8_t> elsewhere(class_ids.size(), 0);
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t record = table_.Find(class_ids[i]);
      const bool stored = record != RowTable::kNone || (cold_ != nullptr && presence_->Test(KeyOf(class_ids[i])));
      if (exists != nullptr) exists[i] = stored;
      if (last_step != nullptr) last_step[i] = record != RowTable::kNone ? slab_.LastStep(record) : -1;
      float* const row_slots = slots == nullptr ? nullptr : slots + i * slot_floats_;
      if (record != RowTable::kNone) {
        codec_.Decode(RecordAt(record), weights + i * dim_, row_slots);
      } else if (stored) {
        elsewhere[i] = 1;
      } else {
        codec_.FillVirtual(class_ids[i], weights + i * dim_);
        if (row_slots != nullptr) std::memset(row_slots, 0, slot_floats_ * sizeof(float));
      }
    }
  });
  std::vector<int64_t> indices;
  for (size_t i = 0; i < elsewhere.size(); ++i) {
    if (elsewhere[i] != 0) indices.push_back(static_cast<int64_t>(i));
  }
  const int64_t record_bytes = codec_.record_bytes();
  std::unique_ptr<std::byte[]> buffer;
  for (size_t begin = 0; begin < indices.size(); begin += kReadBatch) {
    const size_t count = std::min<size_t>(kReadBatch, indices.size() - begin);
    if (buffer == nullptr) buffer = std::make_unique<std::byte[]>(count * record_bytes);
    std::vector<ColdStore::Target> targets;
    targets.reserve(count);
    for (size_t j = 0; j < count; ++j) {
      targets.push_back({static_cast<uint64_t>(KeyOf(class_ids[indices[begin + j]])), buffer.get() + j * record_bytes, 0});
    }
    if (absl::Status status = ReadElsewhere(absl::MakeSpan(targets)); !status.ok()) return status;
    for (size_t j = 0; j < count; ++j) {
      const int64_t i = indices[begin + j];
      codec_.Decode(targets[j].bytes, weights + i * dim_, slots == nullptr ? nullptr : slots + i * slot_floats_);
      if (last_step != nullptr) last_step[i] = targets[j].step;
    }
  }
  return absl::OkStatus();
}

absl::Status TieredRowStore::Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) {
  if (absl::Status status = Acquire(class_ids, /*load=*/false); !status.ok()) return status;
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      codec_.EncodeNearest(weights + i * dim_, slots == nullptr ? nullptr : slots + i * slot_floats_, RecordAt(pinned_[i]));
    }
  });
  Insert(/*with_virtual=*/true);
  MarkChanged(/*step=*/-1);
  EndPin();
  UpdateCounts();
  return absl::OkStatus();
}

std::vector<int64_t> TieredRowStore::ScanKeys(int64_t after, int64_t max_keys) const { return presence_->Next(after, max_keys); }

int64_t TieredRowStore::ClassOfKey(int64_t key) const { return partitions_.ClassAt(PlaceOfKey(key)); }

absl::Status TieredRowStore::Flush() {
  if (cold_ == nullptr) return absl::OkStatus();
  for (size_t record = 0; record < class_of_.size(); ++record) {
    if (class_of_[record] < 0 || (flags_[record] & kDirty) == 0) continue;
    absl::Status status = queue_->Add(KeyOf(class_of_[record]), slab_.LastStep(record), RecordAt(record));
    if (!status.ok()) return status;
    flags_[record] &= ~kDirty;
    --statistics_.dirty_rows;
  }
  if (absl::Status status = queue_->Drain(); !status.ok()) return status;
  return cold_->Flush();
}

absl::Status TieredRowStore::Reserve(int64_t row_count) {
  if (row_count < 0) return absl::InvalidArgumentError(absl::StrCat("row_count ", row_count, " is negative"));
  if (absl::Status status = limits_.CheckRows(row_count, presence_->count()); !status.ok()) return status;
  // A bounded slab holds no more than its bound, however many rows are to come.
  int64_t records = row_count;
  if (options_.slab_records > 0) records = std::min(records, options_.slab_records - table_.size());
  if (records > Slab::kMaxRecords) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no more than ", Slab::kMaxRecords, " rows fit one shard; ", records, " are asked for"));
  }
  if (absl::Status status = limits_.CheckMemory(BytesOfNewRows(records), absl::StrCat(records, " reserved rows")); !status.ok())
    return status;
  try {
    if (absl::Status status = slab_.Ensure(records); !status.ok()) return status;
    table_.Reserve(records);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a table of ", records, " more rows"));
  }
  slab_.Prefault(records);
  UpdateCounts();
  return absl::OkStatus();
}

TieredRowStore::Statistics TieredRowStore::statistics() const {
  Statistics result = statistics_;
  result.slab_rows = table_.size();
  if (cold_ != nullptr) {
    result.queue = queue_->statistics();
    result.cold = cold_->statistics();
  }
  return result;
}

void TieredRowStore::UpdateCounts() {
  row_count_.store(presence_->count(), std::memory_order_relaxed);
  slab_rows_.store(table_.size(), std::memory_order_relaxed);
  touched_.store(slab_.touched_count(), std::memory_order_relaxed);
}

}  // namespace myriad
