#include "server/store/head_folder.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "head/partitions.h"
#include "proto/wire/status.h"
#include "server/store/folders.h"
#include "server/store/memory_division.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/row_key.h"

namespace myriad {
namespace {

constexpr char kStateNote[] = "head_state";

Partitions PartitionsOf(const HeadSpec& head) { return Partitions(head.class_count, head.seed, head.partition_count); }

// Which rows the records on disk are of, and between which steps they lie. Reads all of them.
absl::StatusOr<std::optional<StepRange>> ReadAll(ColdStore* cold, const HeadState& state, PresenceBitmap* presence) {
  std::optional<StepRange> steps;
  absl::Status strange;
  const Partitions partitions = PartitionsOf(state.head);
  const auto [first, last] = partitions.ShardRange(state.shard_index, state.shard_count);
  const auto take = [&, first = first, last = last](const ColdStore::Stamp& stamp) {
    const Partitions::Place place = PlaceOfKey(static_cast<RowKey>(stamp.key));
    if (place.partition < first || place.partition >= last || place.index >= partitions.size(place.partition)) {
      strange = absl::DataLossError(
          absl::StrCat("a record of partition ", place.partition, ", index ", place.index, " is there, which this shard does not have"));
      return;
    }
    presence->Set(static_cast<RowKey>(stamp.key));
    if (!steps) steps = StepRange{stamp.step, stamp.step};
    steps->oldest = std::min(steps->oldest, stamp.step);
    steps->newest = std::max(steps->newest, stamp.step);
  };
  const absl::Status read = cold->VerifyAll([&](absl::Span<const ColdStore::Stamp> stamps) {
    for (const ColdStore::Stamp& stamp : stamps) take(stamp);
  });
  if (!read.ok()) return read;
  if (!strange.ok()) return strange;
  return steps;
}

// Whether a folder that is no whole cold store has files of one.
bool HasTables(const std::string& path) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".sst") return true;
  }
  return static_cast<bool>(error);
}

// The head's state. The state of a head is there before its first row: NOT_FOUND where neither is, DATA_LOSS where only rows are.
absl::StatusOr<HeadState> ReadState(ColdStore* cold) {
  const absl::StatusOr<std::string> note = cold->GetNote(kStateNote);
  if (note.ok()) return ParseHeadState(*note);
  if (!absl::IsNotFound(note.status())) return note.status();
  absl::Status rows = cold->Scan(0, std::numeric_limits<uint64_t>::max(), [](const ColdStore::Record&) {
    return absl::DataLossError("there are rows, but no state of their head");
  });
  return rows.ok() ? note.status() : rows;
}

}  // namespace

HeadFolder::HeadFolder(std::string path, int64_t memory_bytes, HeadState state, std::optional<StepRange> mixed_steps, TieredRowStore* rows)
    : path_(std::move(path)), memory_bytes_(memory_bytes), state_(std::move(state)), mixed_steps_(mixed_steps), rows_(rows) {
  rows_->SetBeforeChange([this] { return MarkInUse(); });
}

HeadFolder::~HeadFolder() { rows_->SetBeforeChange(nullptr); }

absl::StatusOr<HeadFolder::Opened> HeadFolder::Assemble(const std::string& path, HeadState state, std::unique_ptr<ColdStore> cold,
                                                        const Options& options) {
  const absl::StatusOr<MemoryDivision> memory = Divide(state, options.memory_bytes);
  if (!memory.ok()) return memory.status();
  auto presence = std::make_unique<PresenceBitmap>(PartitionsOf(state.head), state.shard_index, state.shard_count);
  std::optional<StepRange> mixed_steps;
  if (state.clean) {
    if (absl::Status status = presence->Parse(state.presence); !status.ok()) return Annotate(status, path);
    state.presence.clear();
    state.presence.shrink_to_fit();
  } else {
    if (options.log) options.log(absl::StrCat(path, ": the server before did not stop cleanly; all rows on disk are checked"));
    absl::StatusOr<std::optional<StepRange>> steps = ReadAll(cold.get(), state, presence.get());
    if (!steps.ok()) return Annotate(steps.status(), path);
    // Without a record on disk, rows may have moved in memory all the same.
    mixed_steps = steps->value_or(StepRange{-1, state.committed_steps - 1});
    state.committed_steps = std::max(state.committed_steps, mixed_steps->newest + 1);
  }
  TieredRowStore::Options store;
  store.head = state.head;
  store.shard_index = state.shard_index;
  store.shard_count = state.shard_count;
  store.max_rows = options.max_rows;
  store.memory_bytes = memory->rows_bytes;
  store.queue_records = memory->queue_records;
  store.available_memory = options.available_memory;
  Opened opened;
  opened.rows = std::make_unique<TieredRowStore>(store, std::move(cold), std::move(presence));
  if (absl::Status status = opened.rows->RestoreIdleRows(); !status.ok()) return Annotate(status, path);
  opened.folder.reset(new HeadFolder(path, options.memory_bytes, std::move(state), mixed_steps, opened.rows.get()));
  return opened;
}

absl::StatusOr<HeadFolder::Opened> HeadFolder::Create(const std::string& path, const HeadState& state, const Options& options) {
  // Before anything is made.
  if (absl::Status status = Divide(state, options.memory_bytes).status(); !status.ok()) return status;
  ColdStore::Options cold_options;
  cold_options.folder = path;
  cold_options.record_bytes = RowCodec(state.head).record_bytes();
  bool is_ours = false;
  const absl::Cleanup remove = [&] {  // After the store is closed.
    if (is_ours) RemoveAll(path).IgnoreError();
  };
  absl::StatusOr<std::unique_ptr<ColdStore>> cold = options.open_cold(cold_options);
  if (!cold.ok()) return cold.status();
  const absl::Status note = (*cold)->GetNote(kStateNote).status();
  if (note.ok()) return absl::AlreadyExistsError(absl::StrCat(path, ": a head is there already"));
  if (!absl::IsNotFound(note)) return note;
  is_ours = true;
  HeadState clean = state;
  clean.clean = true;
  clean.presence = PresenceBitmap(PartitionsOf(state.head), state.shard_index, state.shard_count).Serialize();
  if (absl::Status status = (*cold)->PutNote(kStateNote, SerializeHeadState(clean)); !status.ok()) return status;
  absl::StatusOr<Opened> opened = Assemble(path, std::move(clean), *std::move(cold), options);
  is_ours = !opened.ok();
  return opened;
}

absl::StatusOr<HeadFolder::Opened> HeadFolder::Open(const std::string& path, const Options& options) {
  ColdStore::Options cold_options;
  cold_options.folder = path;
  cold_options.must_exist = true;
  absl::StatusOr<std::unique_ptr<ColdStore>> cold = options.open_cold(cold_options);
  if (absl::IsNotFound(cold.status()) && HasTables(path)) {
    return absl::DataLossError(absl::StrCat("files are missing: ", cold.status().message()));
  }
  if (!cold.ok()) return cold.status();
  absl::StatusOr<HeadState> state = ReadState(cold->get());
  if (!state.ok()) return Annotate(state.status(), path);
  return Assemble(path, *std::move(state), *std::move(cold), options);
}

absl::StatusOr<MemoryDivision> HeadFolder::Divide(const HeadState& state, int64_t memory_bytes) {
  return DivideMemory(state.head, PartitionsOf(state.head).ShardSize(state.shard_index, state.shard_count), memory_bytes);
}

absl::Status HeadFolder::SetMemory(int64_t memory_bytes) {
  const absl::StatusOr<MemoryDivision> memory = Divide(state_, memory_bytes);
  if (!memory.ok()) return memory.status();
  memory_bytes_ = memory_bytes;
  return rows_->SetMemory(memory->rows_bytes, memory->queue_records);
}

absl::Status HeadFolder::PutState() {
  if (state_.clean) state_.presence = rows_->presence().Serialize();
  const absl::Status status = rows_->cold()->PutNote(kStateNote, SerializeHeadState(state_));
  state_.presence.clear();
  state_.presence.shrink_to_fit();
  note_is_sure_ = status.ok();
  return status;
}

absl::Status HeadFolder::Grow(int64_t class_count) {
  const int64_t before = state_.head.class_count;
  const auto set = [&](int64_t count) {
    rows_->Grow(count);
    state_.head.class_count = count;
    return PutState();
  };
  const absl::Status status = set(class_count);
  if (!status.ok()) set(before).IgnoreError();  // Else the next mark takes it back.
  return status;
}

absl::Status HeadFolder::MarkInUse() {
  if (!state_.clean && note_is_sure_) return absl::OkStatus();
  state_.clean = false;
  return PutState();
}

absl::Status HeadFolder::MarkOpened(int64_t incarnation, const TrainingSpec& training, int64_t committed_steps) {
  const HeadState before = state_;
  state_.incarnation = incarnation;
  state_.training = training;
  state_.committed_steps = committed_steps;
  state_.clean = false;
  const absl::Status status = PutState();
  if (!status.ok()) {
    state_ = before;
    return status;
  }
  mixed_steps_.reset();
  return absl::OkStatus();
}

absl::Status HeadFolder::MarkClean(int64_t committed_steps) {
  if (state_.clean && note_is_sure_ && state_.committed_steps == committed_steps) return absl::OkStatus();
  if (const int64_t applied = rows_->last_committed_step() + 1; applied > 0 && applied != committed_steps) {
    return absl::FailedPreconditionError(
        absl::StrCat("head '", state_.head.name, "': ", committed_steps, " steps were decided, and ", applied, " applied to its rows"));
  }
  if (absl::Status status = rows_->Flush(); !status.ok()) return status;
  state_.committed_steps = committed_steps;
  state_.clean = true;
  const absl::Status status = PutState();
  if (!status.ok()) {
    // The note may be waiting in memory for a disk that works again: one that is newer takes its place.
    state_.clean = false;
    PutState().IgnoreError();
  }
  return status;
}

absl::Status HeadFolder::SaveTo(const std::string& path, int64_t committed_steps) {
  if (absl::Status status = MarkClean(committed_steps); !status.ok()) return status;
  return rows_->cold()->LinkTo(path);
}

}  // namespace myriad
