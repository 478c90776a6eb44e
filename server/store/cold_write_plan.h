#ifndef MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_
#define MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/store/cold_store.h"

namespace myriad {

// How records that are to be written reach the disk. A run of whole partitions becomes table files that each cover few keys, which later
// compactions move and merge on their own; rows from anywhere would widen such a file over all keys between them, so they go apart.
struct ColdWritePlan {
  std::vector<ColdStore::Encoded> run;        // Of much the same partitions, past the memtables, cut between partitions.
  std::vector<ColdStore::Encoded> scattered;  // From anywhere.
  bool scattered_as_run = false;              // They fill a memtable, so they pass it by, in one file.
};

// Both lists come in order of keys. A partition is written with the run if it has at least kLeastPartitionBytes of records, and the run
// past the memtables if it has `run_bytes`. Scattered records go past them too if they have as much and more than `memtable_bytes`, what
// one memtable takes.
ColdWritePlan PlanColdWrite(absl::Span<const ColdStore::Encoded> records, int64_t value_bytes, int64_t run_bytes, int64_t memtable_bytes);

constexpr int64_t kLeastPartitionBytes = 128 << 10;

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_WRITE_PLAN_H_
