#include "server/store/memory_division.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/store/cold_store.h"
#include "server/store/hot_rows.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/write_back_queue.h"

namespace myriad {
namespace {

// The queue takes a part of memory, and no more than its writers have in hand with as much again for one of them.
constexpr int64_t kQueuePart = 16;
constexpr int64_t kMaxQueueBytes = (WriteBackQueue::kWriters + 1) * WriteBackQueue::kBatchBytes;
// The value's header, a slot, the key's entry in the queue's table, and places in the lists of those who write it.
constexpr int64_t kBytesBesideQueued = 136;
// Of a refusal: the least memory that would do.
constexpr char kLeastMemoryPayload[] = "myriad/least_memory";
// Rows without which no step is worth starting.
constexpr int64_t kLeastRows = 64;

int64_t QueuedBytes(const HeadSpec& head) { return RowCodec(head).record_bytes() + kBytesBesideQueued; }

// Index, filters, memtables, presence bitmap.
int64_t KeptTrackBytes(const HeadSpec& head, int64_t shard_classes) {
  ColdStore::Options cold;
  cold.record_bytes = RowCodec(head).record_bytes();
  return ColdStore::MemoryBytes(shard_classes, cold) + PresenceBitmap::MemoryBytes(shard_classes);
}

}  // namespace

absl::StatusOr<MemoryDivision> DivideMemory(const HeadSpec& head, int64_t shard_classes, int64_t memory_bytes) {
  const int64_t queued_bytes = QueuedBytes(head);
  MemoryDivision division;
  const int64_t queue_bytes = memory_bytes == 0 ? kMaxQueueBytes : std::min(memory_bytes / kQueuePart, kMaxQueueBytes);
  division.queue_records = std::max<int64_t>(kLeastRows, queue_bytes / queued_bytes);
  division.fixed_bytes = division.queue_records * queued_bytes + KeptTrackBytes(head, shard_classes);
  if (memory_bytes == 0) return division;
  division.rows_bytes = memory_bytes - division.fixed_bytes;
  const int64_t least_rows_bytes = kLeastRows * (RowCodec(head).record_bytes() + HotRows::kBytesBesideRecord);
  if (division.rows_bytes < least_rows_bytes) {
    return MemoryTooSmall(
        absl::StrCat("head '", head.name, "': --memory leaves ", memory_bytes >> 20, " MiB for its ", shard_classes,
                     " classes here, and what keeps track of them on disk alone takes ", division.fixed_bytes >> 20, " MiB"),
        LeastMemory(head, shard_classes, least_rows_bytes));
  }
  return division;
}

int64_t LeastMemory(const HeadSpec& head, int64_t shard_classes, int64_t rows_bytes) {
  const int64_t beside_queue = KeptTrackBytes(head, shard_classes) + rows_bytes;
  return beside_queue + std::max(kLeastRows * QueuedBytes(head), std::min(beside_queue / (kQueuePart - 1), kMaxQueueBytes));
}

absl::Status MemoryTooSmall(const std::string& what, int64_t least_bytes) {
  absl::Status refusal = absl::ResourceExhaustedError(absl::StrCat(what, "; give at least ", (least_bytes >> 20) + 1, " MiB"));
  refusal.SetPayload(kLeastMemoryPayload, absl::Cord(absl::StrCat(least_bytes)));
  return refusal;
}

std::optional<int64_t> LeastMemoryOf(const absl::Status& refusal) {
  const absl::optional<absl::Cord> payload = refusal.GetPayload(kLeastMemoryPayload);
  int64_t bytes = 0;
  return payload && absl::SimpleAtoi(std::string(*payload), &bytes) ? std::make_optional(bytes) : std::nullopt;
}

}  // namespace myriad
