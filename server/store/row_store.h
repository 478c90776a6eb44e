#ifndef MYRIAD_SERVER_STORE_ROW_STORE_H_
#define MYRIAD_SERVER_STORE_ROW_STORE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "head/row_access.h"
#include "head/row_kernels.h"
#include "server/store/row_store_statistics.h"

namespace myriad {

// The rows of one head that one shard keeps: D weights and SlotNumbers() slot numbers each, float32, addressed by class id. The seam that
// the tiers stand behind. A row that was never written is virtual: its value is a pure function of (seed, class id), and it takes no
// memory.
//
// A step pins its rows, works on them one by one and either commits or unpins. Whatever a commit needs is made ready by Pin(), so that
// a shard that has voted YES can apply the step without a way to fail.
//
// Calls must be serial (the head's strand sees to it), but for those in the last part of the class, which are thread-safe. Class ids and
// partitions must be in range and of this shard; the caller checks it.
class RowStore {
 public:
  // Where the rows of one pin were found, and what that took.
  struct PinFigures {
    int64_t hits = 0;     // In memory.
    int64_t awaited = 0;  // Announced, and still on their way into memory.
    int64_t misses = 0;   // On disk: the step had to read them.
    int64_t created = 0;  // Virtual until then.
    // For reads, and for the write-back of rows that had to make room.
    double disk_wait_seconds = 0.0;
  };

  // What a step asks of memory, for CheckRowsFit().
  struct StepRows {
    int64_t count = 0;     // That it works on.
    int64_t resident = 0;  // In memory at once, those included.
  };

  virtual ~RowStore() = default;

  // Makes the rows of step `step` resident. A virtual row gets its value and zero slots; it starts to exist with Commit(). At most one pin
  // at a time. `figures` are set. Requires: distinct class ids.
  // Errors: RESOURCE_EXHAUSTED (the limit of rows, named; memory; a full disk), UNAVAILABLE (the disk), DATA_LOSS (a stored row that is not
  // there or is damaged; named): nothing is pinned.
  virtual absl::Status Pin(int64_t step, absl::Span<const int64_t> class_ids, PinFigures* figures) = 0;
  // The rows of the pin, in the order of the class ids. 16-bit numbers are rounded once, as they change. Valid until Commit() or Unpin();
  // then there are none.
  virtual RowEditor& pinned_rows() = 0;
  // The step for which rows are pinned moves all other rows of the head as well, by `constants` (IdleUpdate::kExact), once Commit() is
  // called. Whoever reads a row then sees it where it stands after that. Errors: RESOURCE_EXHAUSTED (memory): it moves none.
  virtual absl::Status MoveIdleRows(const SgdStep& constants) = 0;
  // The step has changed its rows; new ones exist from now on. Touches memory only; cannot fail. Requires: each pinned row was changed.
  virtual void Commit() = 0;
  // Ends the pin; rows that were virtual are virtual again. Does nothing without a pin. Requires: existing rows were not changed.
  virtual void Unpin() = 0;

  // Copies rows, D floats each, to `weights` (and SlotNumbers() each to `slots` unless it is nullptr) in the order of `class_ids`. Virtual
  // rows have their value, zero slots, exists 0 and last_step -1. Where idle rows move, all rows have what they have moved to; last_step is
  // then the step in which a long-idle row came to rest (head/idle_updates.h). `exists` and `last_step` may be nullptr. Errors:
  // UNAVAILABLE, DATA_LOSS as Pin().
  virtual absl::Status Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists,
                            int64_t* last_step) const = 0;

  // Sets rows; slots are zero when `slots` is nullptr. All or nothing. Not while rows are pinned.
  // Errors: RESOURCE_EXHAUSTED, UNAVAILABLE as Pin().
  virtual absl::Status Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) = 0;

  // Writes the value of every virtual row to the disk as one sorted run; all rows of the shard exist from then on, and none of them came
  // into memory. For measurements of heads that are stored whole. Not while rows are pinned.
  // Errors: FAILED_PRECONDITION (no disk), RESOURCE_EXHAUSTED (the limit of rows; disk full), UNAVAILABLE (the disk): rows stay as they
  // were.
  virtual absl::Status StoreVirtualRows() = 0;

  // The head has `class_count` classes from now on: rows stay where they are, and new ones are virtual. Fewer than before only to take back
  // what was just given. Not while rows are pinned.
  virtual void Grow(int64_t class_count) = 0;

  // Hints: neither changes a result. Where TakesHints() is false, as all rows that exist are in memory, they do nothing.
  virtual bool TakesHints() const = 0;
  // Rows of coming steps, distinct, the most urgent first: those that are on disk are read in the background, as far as there is room.
  virtual void Announce(absl::Span<const int64_t> class_ids) = 0;
  // The partitions whose rows are to stay in memory from now on, ascending. Rows of those that were not among them before are read in the
  // background; those of partitions that are not among them any more make room, and what is new in them goes to the disk.
  virtual void KeepPartitions(absl::Span<const int32_t> partitions) = 0;

  // Every row that exists durable on disk; all stay in memory as well. Nothing to do without a disk. Not while rows are pinned.
  // Errors: RESOURCE_EXHAUSTED (disk full), UNAVAILABLE (the disk): no row is lost; what was written stays.
  virtual absl::Status Flush() = 0;

  // An order over existing rows by (partition, index), as opaque increasing keys. ScanKeys() gives up to `max_keys` keys greater than
  // `after` (-1: from the start) in order; fewer than `max_keys` means that no more follow.
  virtual std::vector<int64_t> ScanKeys(int64_t after, int64_t max_keys) const = 0;

  // Makes room for `row_count` more rows and touches its pages.
  // Errors: INVALID_ARGUMENT (negative), RESOURCE_EXHAUSTED (the limit of rows, memory): what was reserved before stays.
  virtual absl::Status Reserve(int64_t row_count) = 0;

  // Thread-safe from here on.

  // The class of a key of ScanKeys().
  virtual int64_t ClassOfKey(int64_t key) const = 0;
  // OK if the process can take `bytes` more beside the rows, which `purpose` names, without coming so near the end of its memory that the
  // system might kill it. For what a step allocates; rows are counted by Pin(), Write() and Reserve() themselves.
  // Errors: RESOURCE_EXHAUSTED with both numbers.
  virtual absl::Status CheckMemory(int64_t bytes, absl::string_view purpose) const = 0;
  // RESOURCE_EXHAUSTED, saying how much memory is wanting, if such a step would never fit `memory_bytes` for rows, or without it what this
  // head has of them.
  virtual absl::Status CheckRowsFit(const StepRows& rows, std::optional<int64_t> memory_bytes = std::nullopt) const = 0;
  // What `row_count` more rows would take, for CheckMemory(); reserved ones take nothing.
  virtual int64_t BytesOfNewRows(int64_t row_count) const = 0;

  // Rows that exist, and rows for which memory is reserved (existing ones included).
  virtual int64_t row_count() const = 0;
  virtual int64_t reserved_row_count() const = 0;
  // Rows that fit in memory at once; 0: as many as memory holds.
  virtual int64_t slab_limit_rows() const = 0;
  virtual RowStoreStatistics statistics() const = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_STORE_H_
