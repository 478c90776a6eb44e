#include "server/store/tiered_row_store.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <utility>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/virtual_rows.h"
#include "server/store/memory_division.h"

namespace myriad {
namespace {

constexpr int64_t kLookAhead = 8;
// Rows a thread takes at a time.
constexpr int64_t kRowGrain = 64;
// Rows read outside of steps at a time, and announced rows that are read together.
constexpr int64_t kReadBatch = 4096;
constexpr int64_t kLoadBatch = 512;
// Rows of partitions that are to stay, on their way into memory at a time.
constexpr size_t kKeptRowsInFlight = 16384;
// A partition of which fewer rows than one in so many are on disk is read row by row.
constexpr int64_t kRunDensity = 4;
// The sweep comes by every record so many times before a dirty one is due.
constexpr int64_t kSweepsBeforeDue = 8;
// Beside the records: what they need to be understood (idle_rows.h).
constexpr char kIdleNote[] = "idle_updates";

}  // namespace

TieredRowStore::TieredRowStore(const Options& options, std::unique_ptr<ColdStore> cold, std::unique_ptr<PresenceBitmap> presence)
    : options_(options),
      places_(options.head.class_count, options.head.seed, options.head.partition_count),
      partitions_(places_),
      codec_(options.head),
      limits_(options.head.name, options.max_rows, options.available_memory),
      dim_(options.head.embedding_dim),
      slot_floats_(SlotNumbers(options.head)),
      presence_(std::move(presence)),
      idle_(options.head),
      stored_(cold == nullptr ? nullptr : std::make_unique<StoredRows>(std::move(cold), options.queue_records)),
      hot_(codec_.record_bytes()),
      is_kept_(options.head.partition_count, false),
      memory_bytes_(options.memory_bytes),
      queue_records_(options.queue_records),
      loader_(stored_ == nullptr ? nullptr : std::make_unique<RowLoader>(stored_.get())),
      rows_(options.head, &codec_, &idle_) {
  if (stored_ != nullptr && options_.head.slots == OptimizerKind::kSgd) {
    stored_->cold().KeepShort(codec_.weight_bytes(), [this](uint64_t key, int64_t* step, std::byte* record) {
      return idle_.Settle(ClassOfKey(static_cast<int64_t>(key)), step, record);
    });
  }
  SetSlabLimit();
  UpdateCounts();
}

TieredRowStore::~TieredRowStore() {
  if (stored_ != nullptr) stored_->cold().KeepShort(codec_.weight_bytes(), nullptr);
}

absl::Status TieredRowStore::RestoreIdleRows() {
  if (stored_ == nullptr) return absl::OkStatus();
  const absl::StatusOr<std::string> note = stored_->cold().GetNote(kIdleNote);
  if (absl::IsNotFound(note.status())) return absl::OkStatus();
  if (!note.ok()) return note.status();
  return idle_.Restore(*note);
}

void TieredRowStore::Decode(int64_t class_id, int64_t step, const std::byte* record, float* weights, float* slots,
                            std::vector<float>* scratch) const {
  if (slots == nullptr && idle_.active()) {
    scratch->resize(slot_floats_);
    slots = scratch->data();
  }
  idle_.Decode(class_id, ColdStore::StepOf(step), ColdStore::IsShort(step), record, weights, slots);
}

bool TieredRowStore::MustBeWritten(uint32_t record) const {
  if (hot_.Has(record, HotRows::kDirty)) return true;
  const int64_t step = hot_.LastStep(record);
  return !ColdStore::IsShort(step) && idle_.IsDue(step);
}

void TieredRowStore::SettleIfDue(uint32_t record) {
  int64_t step = hot_.LastStep(record);
  if (!idle_.active() || ColdStore::IsShort(step)) return;
  if (idle_.Settle(hot_.ClassOf(record), &step, hot_.At(record))) hot_.LastStep(record) = ColdStore::kShort + step;
}

absl::Status TieredRowStore::WriteBack(uint32_t record) {
  SettleIfDue(record);
  return NameClass(stored_->Add(KeyOf(hot_.ClassOf(record)), hot_.LastStep(record), hot_.At(record)));
}

bool TieredRowStore::TryWriteBack(uint32_t record) {
  SettleIfDue(record);
  return stored_->TryAdd(KeyOf(hot_.ClassOf(record)), hot_.LastStep(record), hot_.At(record));
}

absl::Status TieredRowStore::Evict(uint32_t record) {
  const absl::Status status = MustBeWritten(record) ? WriteBack(record) : absl::OkStatus();
  if (status.ok()) LetGo(record);
  return status;
}

bool TieredRowStore::TryEvict(uint32_t record) {
  if (MustBeWritten(record) && !TryWriteBack(record)) return false;
  LetGo(record);
  return true;
}

void TieredRowStore::LetGo(uint32_t record) {
  hot_.Remove(record);
  ++counts_.evicted;
}

void TieredRowStore::SetSlabLimit() {
  if (memory_bytes_ == 0) return;
  slab_limit_ = std::max<int64_t>(1, memory_bytes_ / RowBytes());
}

int64_t TieredRowStore::BytesOfNewRows(int64_t row_count) const {
  int64_t records = slab_rows_.load(std::memory_order_relaxed) + row_count;
  if (const int64_t limit = slab_limit_rows(); limit > 0) records = std::min(records, limit);
  return std::max<int64_t>(0, records - touched_.load(std::memory_order_relaxed)) * RowBytes();
}

absl::Status TieredRowStore::CheckRowsFit(const StepRows& rows, std::optional<int64_t> memory_bytes) const {
  const int64_t given = memory_bytes.value_or(memory_bytes_);
  if (given == 0) return absl::OkStatus();
  const int64_t needed = std::max(rows.count, rows.resident) * RowBytes();
  if (needed <= given) return absl::OkStatus();
  const int64_t shard_classes = partitions_.ShardSize(options_.shard_index, options_.shard_count);
  const int64_t least = stored_ == nullptr ? needed : LeastMemory(options_.head, shard_classes, needed);
  const std::string others = rows.resident > rows.count ? absl::StrCat(", and what stays beside them, ", rows.resident, " in all,") : "";
  return MemoryTooSmall(absl::StrCat("head '", options_.head.name, "': the ", rows.count, " rows of a step", others, " take ", needed >> 20,
                                     " MiB, and --memory leaves ", given >> 20, " MiB for rows"),
                        least);
}

absl::Status TieredRowStore::SetMemory(int64_t memory_bytes, int64_t queue_records) {
  memory_bytes_ = memory_bytes;
  queue_records_ = queue_records;
  SetSlabLimit();
  absl::Status status = ComeDownToLimit();
  if (status.ok()) status = GiveQueueItsRoom();
  UpdateCounts();
  return status;
}

absl::Status TieredRowStore::ComeDownToLimit() {
  const int64_t limit = slab_limit_rows();
  // Without a disk no row can go; MakeRoom() takes no more in.
  if (limit == 0 || stored_ == nullptr || hot_.touched_count() <= limit) return absl::OkStatus();
  for (const std::shared_ptr<LoadBatch>& batch : loading_) AwaitBatch(*batch);
  SettleLoaded();
  for (int64_t record = limit; record < hot_.taken_count(); ++record) {
    if (!hot_.Has(record, HotRows::kResident)) continue;
    if (absl::Status status = Evict(record); !status.ok()) return status;
  }
  hot_.Trim(limit);
  return absl::OkStatus();
}

absl::Status TieredRowStore::GiveQueueItsRoom() {
  if (stored_ == nullptr || stored_->queue_records() == queue_records_) return absl::OkStatus();
  for (const std::shared_ptr<LoadBatch>& batch : loading_) AwaitBatch(*batch);  // They read in the queue too.
  return NameClass(stored_->SetQueueRecords(queue_records_));
}

double TieredRowStore::DiskWaitSeconds() const {
  return load_wait_seconds_ + (stored_ == nullptr ? 0.0 : stored_->queue_statistics().wait_seconds);
}

void TieredRowStore::AwaitBatch(const LoadBatch& batch) {
  const absl::Time start = absl::Now();
  batch.done.WaitForNotification();
  load_wait_seconds_ += absl::ToDoubleSeconds(absl::Now() - start);
}

absl::Status TieredRowStore::MakeRoom(int64_t records) {
  const int64_t limit = slab_limit_rows();
  const auto over = [&] { return limit == 0 ? 0 : hot_.size() + records - limit; };
  if (over() > 0 && stored_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': ", records, " more rows beside ", hot_.size(),
                                                     " do not fit the ", limit,
                                                     " rows that --memory holds; give more, or a disk with --store"));
  }
  bool kept_too = false;
  while (over() > 0) {
    const uint32_t victim = hot_.NextVictim(kept_too);
    if (victim != HotRows::kNone) {
      if (absl::Status status = Evict(victim); !status.ok()) return status;
    } else if (!kept_too) {
      kept_too = true;
    } else if (!loading_.empty()) {
      // Rows on their way cannot go before they are there.
      AwaitBatch(*loading_.front());
      SettleLoaded();
    } else {
      return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': the rows of one step do not fit the ", limit,
                                                       " rows that --memory leaves for them; ", over(), " are too many"));
    }
  }
  return absl::OkStatus();
}

absl::Status TieredRowStore::NameClass(const absl::Status& status) const {
  const std::optional<uint64_t> key = ColdStore::KeyOf(status);
  if (!key) return status;
  return absl::Status(status.code(), absl::StrCat("class ", ClassOfKey(static_cast<int64_t>(*key)), ": ", status.message()));
}

absl::Status TieredRowStore::ReadStored(absl::Span<ColdStore::Target> targets) const { return NameClass(stored_->Read(targets)); }

absl::Status TieredRowStore::LoadMisses() {
  if (misses_.empty()) return absl::OkStatus();
  std::vector<ColdStore::Target> targets;
  targets.reserve(misses_.size());
  for (const uint32_t index : misses_) {
    targets.push_back({static_cast<uint64_t>(KeyOf(pinned_ids_[index])), hot_.At(pinned_[index]), 0});
  }
  const absl::Status status = ReadStored(absl::MakeSpan(targets));
  for (size_t i = 0; status.ok() && i < targets.size(); ++i) hot_.LastStep(pinned_[misses_[i]]) = targets[i].step;
  return status;
}

void TieredRowStore::AwaitLoading() {
  for (const std::shared_ptr<LoadBatch>& batch : loading_) {
    const auto waits = [&](uint32_t record) { return hot_.Has(record, HotRows::kPinned); };
    if (std::any_of(batch->records.begin(), batch->records.end(), waits)) batch->done.WaitForNotification();
  }
  SettleLoaded();
  for (const uint32_t index : awaited_) {
    if (hot_.ClassOf(pinned_[index]) >= 0) continue;
    misses_.push_back(index);
  }
}

absl::Status TieredRowStore::Acquire(absl::Span<const int64_t> class_ids, bool load, PinFigures* figures) {
  if (absl::Status status = BeforeChange(); !status.ok()) return status;
  SettleLoaded();
  Sweep();
  const int64_t count = class_ids.size();
  const double waited = DiskWaitSeconds();
  absl::Status status;
  try {
    // What SetMemory() left over goes before any row is pinned.
    if (status = ComeDownToLimit(); !status.ok()) return status;
    pinned_ids_.assign(class_ids.begin(), class_ids.end());
    pinned_.assign(count, HotRows::kNone);
    for (int64_t i = 0; i < std::min(kLookAhead, count); ++i) hot_.Prefetch(class_ids[i]);
    for (int64_t i = 0; i < count; ++i) {
      if (i + kLookAhead < count) hot_.Prefetch(class_ids[i + kLookAhead]);
      pinned_[i] = hot_.Find(class_ids[i]);
      if (pinned_[i] != HotRows::kNone) {
        hot_.Set(pinned_[i], HotRows::kPinned | HotRows::kUsed);
        if (hot_.Has(pinned_[i], HotRows::kLoading)) awaited_.push_back(static_cast<uint32_t>(i));
        continue;
      }
      const RowKey key = KeyOf(class_ids[i]);
      const bool exists = stored_ != nullptr && presence_->Test(key);
      (exists ? misses_ : virtual_).push_back(static_cast<uint32_t>(i));
      if (!exists) presence_->MakeRoom(key);
    }
    std::vector<int64_t> absent_ids;
    absent_ids.reserve(misses_.size() + virtual_.size());
    for (const std::vector<uint32_t>* indices : {&misses_, &virtual_}) {
      for (const uint32_t index : *indices) absent_ids.push_back(class_ids[index]);
    }
    const int64_t absent = static_cast<int64_t>(absent_ids.size());
    status = limits_.CheckRows(virtual_.size(), presence_->count());
    if (status.ok()) status = limits_.CheckMemory(BytesOfNewRows(absent), absl::StrCat(absent, " new rows in memory"));
    if (status.ok() && absent > 0) status = MakeRoom(absent);
    if (status.ok() && absent > 0) status = hot_.MakeRoomFor(absent_ids);
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': no memory to look up ", count, " rows"));
  }
  if (!status.ok()) {
    EndPin();
    return status;
  }
  for (const std::vector<uint32_t>* indices : {&misses_, &virtual_}) {
    for (const uint32_t index : *indices) pinned_[index] = hot_.Take();
  }
  figures->awaited = static_cast<int64_t>(awaited_.size());
  figures->misses = static_cast<int64_t>(misses_.size());
  figures->created = static_cast<int64_t>(virtual_.size());
  figures->hits = count - figures->awaited - figures->misses - figures->created;
  figures->disk_wait_seconds = DiskWaitSeconds() - waited;
  if (misses_.empty() && awaited_.empty()) return absl::OkStatus();
  const absl::Time start = absl::Now();
  if (load) status = LoadMisses();
  if (status.ok() && !awaited_.empty()) {
    std::vector<uint32_t> read = std::exchange(misses_, {});
    AwaitLoading();
    if (load) status = LoadMisses();
    misses_.insert(misses_.end(), read.begin(), read.end());
  }
  figures->disk_wait_seconds += absl::ToDoubleSeconds(absl::Now() - start);
  if (!status.ok()) EndPin();
  return status;
}

void TieredRowStore::EndPin() {
  for (const uint32_t record : pinned_) {
    if (record == HotRows::kNone) continue;
    // Not in the table: taken for a row that it did not have, or left to the pin by a background read that failed.
    if (hot_.ClassOf(record) < 0) {
      hot_.Return(record);
    } else {
      hot_.Unset(record, HotRows::kPinned);
    }
  }
  rows_.Clear();
  pinned_ids_.clear();
  pinned_.clear();
  misses_.clear();
  virtual_.clear();
  awaited_.clear();
}

absl::Status TieredRowStore::Pin(int64_t step, absl::Span<const int64_t> class_ids, PinFigures* figures) {
  try {
    rows_.Begin(step, class_ids.size());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': no memory to pin ", class_ids.size(), " rows"));
  }
  *figures = PinFigures();
  if (absl::Status status = Acquire(class_ids, /*load=*/true, figures); !status.ok()) {
    rows_.Clear();
    return status;
  }
  counts_.hits += figures->hits;
  counts_.awaited += figures->awaited;
  counts_.misses += figures->misses;
  counts_.created += figures->created;
  counts_.disk_wait_seconds += figures->disk_wait_seconds;
  // First touch of new records happens here as well, spread over the threads.
  at::parallel_for(0, virtual_.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) codec_.EncodeVirtual(class_ids[virtual_[i]], hot_.At(pinned_[virtual_[i]]));
  });
  for (size_t i = 0; i < pinned_.size(); ++i) {
    const int64_t last_step = hot_.LastStep(pinned_[i]);
    rows_.Set(i, {class_ids[i], ColdStore::StepOf(last_step), ColdStore::IsShort(last_step), hot_.At(pinned_[i])});
  }
  for (const uint32_t i : virtual_) rows_.Set(i, {class_ids[i], IdleRows::kBeforeAnyStep, /*settled=*/true, hot_.At(pinned_[i])});
  UpdateCounts();
  return absl::OkStatus();
}

void TieredRowStore::Insert(bool with_virtual) {
  const auto insert = [&](uint32_t index) {
    const int64_t class_id = pinned_ids_[index];
    const Partitions::Place place = partitions_.Locate(class_id);
    hot_.Insert(class_id, pinned_[index], HotRows::kUsed | (is_kept_[place.partition] ? HotRows::kKept : 0));
    return KeyOfPlace(place);
  };
  for (const uint32_t index : misses_) insert(index);
  if (!with_virtual) return;
  for (const uint32_t index : virtual_) presence_->Set(insert(index));
}

void TieredRowStore::Commit() {
  now_ = rows_.step();
  Insert(/*with_virtual=*/true);
  for (const uint32_t record : pinned_) hot_.MarkChanged(record, now_, now_);
  idle_.Commit(now_);
  EndPin();
  UpdateCounts();
}

void TieredRowStore::Unpin() {
  idle_.Abandon();
  // Rows that were read stay, as the disk has them.
  Insert(/*with_virtual=*/false);
  EndPin();
  UpdateCounts();
}

absl::Status TieredRowStore::Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists,
                                  int64_t* last_step) const {
  // Rows in the slab and virtual ones at once; those elsewhere afterwards. A record that is on its way is elsewhere.
  std::vector<uint8_t> elsewhere(class_ids.size(), 0);
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch;
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t record = hot_.Find(class_ids[i]);
      const bool in_slab = record != HotRows::kNone && !hot_.Has(record, HotRows::kLoading);
      const bool stored = in_slab || IsStored(class_ids[i]);
      if (exists != nullptr) exists[i] = stored;
      if (last_step != nullptr) last_step[i] = in_slab ? StepOf(hot_.LastStep(record)) : -1;
      float* const row_slots = slots == nullptr ? nullptr : slots + i * slot_floats_;
      if (in_slab) {
        Decode(class_ids[i], hot_.LastStep(record), hot_.At(record), weights + i * dim_, row_slots, &scratch);
      } else if (stored) {
        elsewhere[i] = 1;
      } else {
        FillVirtualRow(options_.head, class_ids[i], weights + i * dim_);
        if (idle_.active()) {
          scratch.resize(slot_floats_);
          idle_.CatchUpVirtual(weights + i * dim_, row_slots == nullptr ? scratch.data() : row_slots);
        } else if (row_slots != nullptr) {
          std::memset(row_slots, 0, slot_floats_ * sizeof(float));
        }
      }
    }
  });
  std::vector<int64_t> indices;
  for (size_t i = 0; i < elsewhere.size(); ++i) {
    if (elsewhere[i] != 0) indices.push_back(static_cast<int64_t>(i));
  }
  const int64_t record_bytes = codec_.record_bytes();
  std::unique_ptr<std::byte[]> buffer;
  std::vector<float> scratch;
  for (size_t begin = 0; begin < indices.size(); begin += kReadBatch) {
    const size_t count = std::min<size_t>(kReadBatch, indices.size() - begin);
    if (buffer == nullptr) buffer = std::make_unique<std::byte[]>(count * record_bytes);
    std::vector<ColdStore::Target> targets;
    targets.reserve(count);
    for (size_t j = 0; j < count; ++j) {
      targets.push_back({static_cast<uint64_t>(KeyOf(class_ids[indices[begin + j]])), buffer.get() + j * record_bytes, 0});
    }
    if (absl::Status status = ReadStored(absl::MakeSpan(targets)); !status.ok()) return status;
    for (size_t j = 0; j < count; ++j) {
      const int64_t i = indices[begin + j];
      Decode(class_ids[i], targets[j].step, targets[j].bytes, weights + i * dim_, slots == nullptr ? nullptr : slots + i * slot_floats_,
             &scratch);
      if (last_step != nullptr) last_step[i] = StepOf(targets[j].step);
    }
  }
  return absl::OkStatus();
}

absl::Status TieredRowStore::Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) {
  PinFigures figures;
  if (absl::Status status = Acquire(class_ids, /*load=*/false, &figures); !status.ok()) return status;
  at::parallel_for(0, class_ids.size(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      codec_.EncodeNearest(weights + i * dim_, slots == nullptr ? nullptr : slots + i * slot_floats_, hot_.At(pinned_[i]));
    }
  });
  Insert(/*with_virtual=*/true);
  // Where idle rows move, numbers are those of some step.
  const int64_t step = idle_.active() ? idle_.last_step() : -1;
  for (const uint32_t record : pinned_) hot_.MarkChanged(record, step, now_);
  EndPin();
  UpdateCounts();
  return absl::OkStatus();
}

void TieredRowStore::Grow(int64_t class_count) {
  partitions_ = Partitions(class_count, options_.head.seed, options_.head.partition_count);
  presence_->Grow(partitions_);
}

void TieredRowStore::Settle(const LoadBatch& batch) {
  for (size_t i = 0; i < batch.records.size(); ++i) {
    const uint32_t record = batch.records[i];
    hot_.Unset(record, HotRows::kLoading);
    if (batch.status.ok()) {
      hot_.LastStep(record) = batch.targets[i].step;
    } else if (hot_.Has(record, HotRows::kPinned)) {
      hot_.Detach(record);  // The pin reads it itself, and tells what is wrong.
    } else {
      hot_.Remove(record);
    }
  }
  if (batch.status.ok()) (batch.run ? counts_.kept : counts_.announced) += static_cast<int64_t>(batch.records.size());
}

void TieredRowStore::SettleLoaded() {
  const auto ended = [&](const std::shared_ptr<LoadBatch>& batch) {
    if (!batch->done.HasBeenNotified()) return false;
    Settle(*batch);
    return true;
  };
  loading_.erase(std::remove_if(loading_.begin(), loading_.end(), ended), loading_.end());
}

bool TieredRowStore::StartLoading(absl::Span<const int64_t> class_ids, bool run) {
  std::vector<int64_t> wanted;
  for (const int64_t class_id : class_ids) {
    if (hot_.Find(class_id) == HotRows::kNone && IsStored(class_id)) wanted.push_back(class_id);
  }
  bool all = true;
  const int64_t limit = slab_limit_rows();
  // What has to wait for the disk before it can go stays.
  while (limit > 0 && hot_.size() + static_cast<int64_t>(wanted.size()) > limit) {
    const uint32_t victim = wanted.empty() ? HotRows::kNone : hot_.NextVictim(/*kept_too=*/false);
    if (victim == HotRows::kNone || !TryEvict(victim)) {
      wanted.resize(std::max<int64_t>(0, limit - hot_.size()));
      all = false;
      break;
    }
  }
  if (!limits_.CheckMemory(BytesOfNewRows(wanted.size()), "announced rows").ok() || !hot_.MakeRoomFor(wanted).ok()) return false;
  const size_t batch_rows = run ? std::max<size_t>(1, wanted.size()) : kLoadBatch;
  for (size_t begin = 0; begin < wanted.size(); begin += batch_rows) {
    auto batch = std::make_shared<LoadBatch>();
    batch->run = run;
    const absl::Span<const int64_t> part = absl::MakeConstSpan(wanted).subspan(begin, batch_rows);
    // All memory first: a record that is on its way must have somebody who reads it.
    batch->records.reserve(part.size());
    batch->targets.reserve(part.size());
    loading_.reserve(loading_.size() + 1);
    for (const int64_t class_id : part) {
      const uint32_t record = hot_.Take();
      const Partitions::Place place = partitions_.Locate(class_id);
      hot_.Insert(class_id, record, HotRows::kUsed | HotRows::kLoading | (is_kept_[place.partition] ? HotRows::kKept : 0));
      batch->records.push_back(record);
      batch->targets.push_back({static_cast<uint64_t>(KeyOfPlace(place)), hot_.At(record), 0});
    }
    loading_.push_back(batch);
    loader_->Start(std::move(batch));
  }
  return all;
}

absl::Status TieredRowStore::StoreVirtualRows() {
  if (stored_ == nullptr) return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' has no disk"));
  const auto [first, last] = partitions_.ShardRange(options_.shard_index, options_.shard_count);
  const int64_t absent = partitions_.ShardSize(options_.shard_index, options_.shard_count) - presence_->count();
  if (absl::Status status = limits_.CheckRows(absent, presence_->count()); !status.ok()) return status;
  if (absl::Status status = BeforeChange(); !status.ok()) return status;
  // The next virtual row at or behind a place, which then stands behind it; false if there is none.
  const auto next_virtual = [&, end = last](Partitions::Place* place, RowKey* key) {
    for (; place->partition < end; *place = {place->partition + 1, 0}) {
      for (; place->index < partitions_.size(place->partition); ++place->index) {
        *key = KeyOfPlace(*place);
        if (presence_->Test(*key)) continue;
        ++place->index;
        return true;
      }
    }
    return false;
  };
  Partitions::Place place{first, 0};
  RowKey key = 0;
  try {
    while (next_virtual(&place, &key)) presence_->MakeRoom(key);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head.name, "': no memory to know of ", absent, " more rows"));
  }
  std::vector<std::byte> record(codec_.record_bytes());
  place = {first, 0};
  const absl::Status status = stored_->cold().Ingest([&](ColdStore::Record* next) {
    if (!next_virtual(&place, &key)) return false;
    codec_.EncodeVirtual(ClassOfKey(key), record.data());
    *next = {static_cast<uint64_t>(key), /*step=*/-1, record.data()};
    return true;
  });
  if (!status.ok()) return status;
  for (place = {first, 0}; next_virtual(&place, &key);) presence_->Set(key);
  UpdateCounts();
  return absl::OkStatus();
}

void TieredRowStore::Announce(absl::Span<const int64_t> class_ids) {
  if (stored_ == nullptr) return;
  try {
    SettleLoaded();
    StartLoading(class_ids, /*run=*/false);
    LoadKept();
  } catch (const std::bad_alloc&) {  // A hint that costs too much is none.
  }
  UpdateCounts();
}

void TieredRowStore::KeepPartitions(absl::Span<const int32_t> partitions) {
  if (stored_ == nullptr) return;
  try {
    SettleLoaded();
    std::vector<int32_t> gone, come;
    std::set_difference(kept_.begin(), kept_.end(), partitions.begin(), partitions.end(), std::back_inserter(gone));
    std::set_difference(partitions.begin(), partitions.end(), kept_.begin(), kept_.end(), std::back_inserter(come));
    kept_.assign(partitions.begin(), partitions.end());
    for (const int32_t partition : gone) LetPartitionGo(partition);
    for (const int32_t partition : come) {
      is_kept_[partition] = true;
      ForEachHot(partition, [&](uint32_t record) { hot_.Set(record, HotRows::kKept); });
      coming_.push_back(partition);
    }
    LoadKept();
  } catch (const std::bad_alloc&) {  // A hint that costs too much is none.
  }
  UpdateCounts();
}

// Begins to read partitions that are to stay, a few at a time.
void TieredRowStore::LoadKept() {
  size_t in_flight = 0;
  for (const std::shared_ptr<LoadBatch>& batch : loading_) in_flight += batch->run ? batch->records.size() : 0;
  for (; in_flight < kKeptRowsInFlight && !coming_.empty(); coming_.pop_front()) {
    const int32_t partition = coming_.front();
    if (!is_kept_[partition]) continue;
    std::vector<int64_t> class_ids;
    for (const RowKey key : presence_->KeysOf(partition)) class_ids.push_back(ClassOfKey(key));
    const bool run = static_cast<int64_t>(class_ids.size()) * kRunDensity > partitions_.size(partition);
    if (!StartLoading(class_ids, run)) return;
    in_flight += class_ids.size();
  }
}

template <typename Visitor>
void TieredRowStore::ForEachHot(int32_t partition, Visitor visit) {
  for (const RowKey key : presence_->KeysOf(partition)) {
    const uint32_t record = hot_.Find(ClassOfKey(key));
    if (record != HotRows::kNone) visit(record);
  }
}

// What is new goes to the disk in the order of keys, as one sorted run. The rows stay until their records are wanted.
void TieredRowStore::LetPartitionGo(int32_t partition) {
  is_kept_[partition] = false;
  ForEachHot(partition, [&](uint32_t record) {
    hot_.Unset(record, HotRows::kKept | HotRows::kUsed);
    if (hot_.Has(record, HotRows::kPinned | HotRows::kLoading)) return;
    if (MustBeWritten(record) && TryWriteBack(record)) hot_.MarkClean(record);
  });
}

// A part of the slab in each step: rows that have been dirty for long go to the disk, and stay.
void TieredRowStore::Sweep() {
  if (stored_ == nullptr || hot_.dirty_count() == 0) return;
  const int64_t taken = hot_.taken_count();
  const int64_t looks = std::min(taken, taken * kSweepsBeforeDue / options_.sweep_after_steps + 1);
  for (int64_t i = 0; i < looks; ++i) {
    if (swept_ >= taken) swept_ = 0;
    const uint32_t record = static_cast<uint32_t>(swept_++);
    if (!hot_.Has(record, HotRows::kDirty) || static_cast<uint32_t>(now_) - hot_.DirtySince(record) < options_.sweep_after_steps) continue;
    if (!TryWriteBack(record)) return;
    hot_.MarkClean(record);
  }
}

absl::Status TieredRowStore::Flush() {
  if (stored_ == nullptr) return absl::OkStatus();
  for (int64_t i = 0; i < hot_.taken_count(); ++i) {
    const uint32_t record = static_cast<uint32_t>(i);
    if (!hot_.Has(record, HotRows::kDirty)) continue;
    if (absl::Status status = WriteBack(record); !status.ok()) return status;
    hot_.MarkClean(record);
  }
  // Before the rows, which mean nothing without it.
  absl::Status status = idle_.active() ? stored_->cold().PutNote(kIdleNote, idle_.Serialize()) : absl::OkStatus();
  if (status.ok()) status = NameClass(stored_->Flush());
  // What SetMemory() could not do, and said; rows are safe either way.
  if (status.ok()) GiveQueueItsRoom().IgnoreError();
  UpdateCounts();
  return status;
}

std::vector<int64_t> TieredRowStore::ScanKeys(int64_t after, int64_t max_keys) const { return presence_->Next(after, max_keys); }

int64_t TieredRowStore::ClassOfKey(int64_t key) const { return places_.ClassAt(PlaceOfKey(key)); }

absl::Status TieredRowStore::Reserve(int64_t row_count) {
  if (row_count < 0) return absl::InvalidArgumentError(absl::StrCat("row_count ", row_count, " is negative"));
  if (absl::Status status = limits_.CheckRows(row_count, presence_->count()); !status.ok()) return status;
  // A bounded slab holds no more than its bound, however many rows are to come.
  int64_t records = row_count;
  if (const int64_t limit = slab_limit_rows(); limit > 0) records = std::max<int64_t>(0, std::min(records, limit - hot_.size()));
  if (records > Slab::kMaxRecords) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no more than ", Slab::kMaxRecords, " rows fit one shard; ", records, " are asked for"));
  }
  if (absl::Status status = limits_.CheckMemory(BytesOfNewRows(records), absl::StrCat(records, " reserved rows")); !status.ok())
    return status;
  try {
    if (absl::Status status = hot_.Reserve(records); !status.ok()) return status;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a table of ", records, " more rows"));
  }
  UpdateCounts();
  return absl::OkStatus();
}

RowStoreStatistics TieredRowStore::statistics() const {
  RowStoreStatistics result;
  {
    absl::MutexLock lock(&statistics_mu_);
    result = published_;
  }
  if (stored_ != nullptr) {
    const WriteBackQueue::Statistics queue = stored_->queue_statistics();
    result.queued_rows = queue.queued;
    result.write_back_wait_seconds = queue.wait_seconds;
    result.cold = stored_->cold().statistics();
    // A row may have records in several files.
    result.cold.record_count_estimate = std::min(result.cold.record_count_estimate, row_count());
  }
  return result;
}

void TieredRowStore::UpdateCounts() {
  row_count_.store(presence_->count(), std::memory_order_relaxed);
  slab_rows_.store(hot_.size(), std::memory_order_relaxed);
  touched_.store(hot_.touched_count(), std::memory_order_relaxed);
  counts_.record_bytes = codec_.record_bytes();
  counts_.slab_rows = hot_.size();
  counts_.slab_limit_rows = slab_limit_rows();
  counts_.dirty_rows = hot_.dirty_count();
  counts_.kept_partitions = static_cast<int64_t>(kept_.size());
  absl::MutexLock lock(&statistics_mu_);
  published_ = counts_;
}

}  // namespace myriad
