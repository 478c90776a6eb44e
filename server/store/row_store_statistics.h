#ifndef MYRIAD_SERVER_STORE_ROW_STORE_STATISTICS_H_
#define MYRIAD_SERVER_STORE_ROW_STORE_STATISTICS_H_

#include <cstdint>

#include "server/store/cold_store.h"

namespace myriad {

// Figures of a row store. Counts run from when it was opened; what is "now" says so.
struct RowStoreStatistics {
  // Rows of steps, by where they were found.
  int64_t hits = 0;     // In memory.
  int64_t awaited = 0;  // Still on their way into memory: announced, but not early enough.
  int64_t misses = 0;   // Written before and not in memory: the step read them.
  int64_t created = 0;  // Virtual until then.
  // Rows that were read before a step asked for them.
  int64_t announced = 0;  // Because they were announced.
  int64_t kept = 0;       // With a partition that is to stay in memory.
  int64_t evicted = 0;
  double disk_wait_seconds = 0.0;        // That steps waited for reads, and for room in the write-back queue.
  double write_back_wait_seconds = 0.0;  // Of it, the latter; with that of writes and saves.
  // Now.
  int64_t record_bytes = 0;  // Of one row in memory.
  int64_t slab_rows = 0;
  int64_t slab_limit_rows = 0;  // 0: no limit but memory.
  int64_t dirty_rows = 0;       // In memory, and newer than on disk.
  int64_t kept_partitions = 0;
  int64_t queued_rows = 0;  // On their way to the disk.
  ColdStore::Statistics cold;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_STORE_STATISTICS_H_
