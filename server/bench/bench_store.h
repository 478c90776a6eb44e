#ifndef MYRIAD_SERVER_BENCH_BENCH_STORE_H_
#define MYRIAD_SERVER_BENCH_BENCH_STORE_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "head/head_spec.h"
#include "server/store/cold_store.h"

namespace myriad {

// `myriad bench store`: what the cold store makes of the disk, and the slab of memory.
struct BenchStoreOptions {
  std::string folder;                    // An existing folder; the store is made in it and goes at the end.
  int64_t rows = 1000000;                // Rows on disk.
  int dim = 512;                         // D.
  DataType dtype = DataType::kBFloat16;  // Of weights and momentum.
  int64_t fetch_rows = 16384;            // Rows of a random fetch, and of a random write-back.
  int64_t partitions = 64;               // Partitions of a partition fetch, and of a write-back at least.
  int rounds = 5;                        // Of each measurement; the store and the raw disk take turns.
  double churn = 0.0;         // Write back so many times the data, by partitions and then at random, for the write amplification.
  int64_t hot_rows = 100000;  // Rows in memory for the comparison with memcpy; 0 leaves it out.
  int io_threads = 16;
  ColdStoreTuning tuning;
  std::string json_path;              // No file when empty.
  std::function<bool()> should_stop;  // Asked between measurements; true ends the benchmark. Never when empty.
};

// Fills a store with the virtual rows of a head, checks what it reads back, measures, and prints a table to `out`.
// Errors: INVALID_ARGUMENT (an option out of range), those of ColdStore and of the system, INTERNAL (a row is not what was written),
// CANCELLED (`should_stop`).
absl::Status RunBenchStore(const BenchStoreOptions& options, std::ostream& out);

// `myriad-server bench-store`, which calls itself `name`. Returns the exit code.
int BenchStoreMain(const char* name, int argc, char** argv);

}  // namespace myriad

#endif  // MYRIAD_SERVER_BENCH_BENCH_STORE_H_
