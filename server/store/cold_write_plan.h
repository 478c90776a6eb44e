#ifndef MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_
#define MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/store/cold_store.h"

namespace myriad {

// How records that are to be written reach the disk (ColdStoreFamilies): stretches of consecutive keys become table files that each cover
// few keys, which later compactions move and merge on their own; rows from anywhere would widen such a file over all keys between them.
struct ColdWritePlan {
  std::vector<ColdStore::Encoded> stretches;  // Of much the same partitions.
  std::vector<ColdStore::Encoded> scattered;  // From anywhere.
  bool past_memtables = false;                // As tables: there are stretches, or the others fill a memtable.
};

// Both lists come in order of keys. The records of a partition are written as stretches if they have at least kLeastPartitionBytes and are
// kLeastStretch in a row on average, and those of all partitions at least `run_bytes`; where that is less, a partition needs no more.
// Others go past the memtables if they have as much and more than `memtable_bytes`, what one memtable takes.
ColdWritePlan PlanColdWrite(absl::Span<const ColdStore::Encoded> records, int64_t value_bytes, int64_t run_bytes, int64_t memtable_bytes);

constexpr int64_t kLeastPartitionBytes = 128 << 10;
// Each stretch costs a look at its bounds with every read, until merges have done what it says.
constexpr int64_t kLeastStretch = 16;

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_
