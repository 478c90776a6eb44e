#ifndef MYRIAD_SERVER_STORE_MEMORY_DIVISION_H_
#define MYRIAD_SERVER_STORE_MEMORY_DIVISION_H_

#include <cstdint>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "head/head_spec.h"

namespace myriad {

// How the memory of a head with a cold store is divided.
struct MemoryDivision {
  int64_t rows_bytes = 0;     // The slab with what stands beside its records, and what a step works on.
  int64_t queue_records = 0;  // Of the write-back queue.
  int64_t fixed_bytes = 0;    // All the rest: queue, memtables, index and filters of all rows that may come to exist, presence bitmap.
};

// Divides `memory_bytes` for the rows of `shard_classes` classes, of which all may come to exist; 0: no limit, and rows_bytes is 0. A pure
// function.
// Errors: RESOURCE_EXHAUSTED naming the least that would do where no row would be left.
absl::StatusOr<MemoryDivision> DivideMemory(const HeadSpec& head, int64_t shard_classes, int64_t memory_bytes);

// The least memory of which DivideMemory() leaves `rows_bytes`, to a MiB or a queued record. A pure function.
int64_t LeastMemory(const HeadSpec& head, int64_t shard_classes, int64_t rows_bytes);

// RESOURCE_EXHAUSTED: `what`, and that `least_bytes` of --memory would do.
absl::Status MemoryTooSmall(const std::string& what, int64_t least_bytes);
// That number, of such a refusal.
std::optional<int64_t> LeastMemoryOf(const absl::Status& refusal);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_MEMORY_DIVISION_H_
