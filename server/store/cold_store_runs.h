#ifndef MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "server/store/io_pool.h"

namespace myriad {

// Sorted runs of records into table files of the store, past its memtables: each byte is written once. Thread-safe.
class ColdStoreRuns {
 public:
  // Gives the value of a record of the run; `scratch` has room for the longest. Several threads call it.
  using ValueOf = absl::FunctionRef<rocksdb::Slice(int64_t record, char* scratch)>;

  // All outlive it. Files in the making lie in `folder`, under names that no other process gives.
  ColdStoreRuns(rocksdb::DB* db, const rocksdb::Options& options, IoPool* pool, const std::string& folder, int64_t value_bytes);

  // Removes what a process that was killed has left in the folder of an open store, whose lock keeps others out. Before any Add(): such a
  // file may be a second link of a table that the store has taken in, and must not be written to.
  static rocksdb::Status RemoveLeftovers(rocksdb::Env* env, const std::string& folder);

  enum class Kind {
    kLowest,      // Cut between partitions; nothing in the store lies below the run, so its tables need no filters.
    kPartitions,  // Cut between partitions.
    kScattered,   // In one piece: any file of it would cover about all keys.
  };
  // Durable when it returns; nothing is left behind otherwise. Requires: keys strictly increasing.
  rocksdb::Status Add(absl::Span<const uint64_t> keys, Kind kind, ValueOf value_of);

 private:
  // Of records [begin, end).
  rocksdb::Status Build(absl::Span<const uint64_t> keys, int64_t begin, int64_t end, Kind kind, const std::string& path,
                        ValueOf value_of) const;

  rocksdb::DB* const db_;
  const rocksdb::Options options_;
  IoPool* const pool_;
  std::string prefix_;  // Of the paths of files in the making.
  const int64_t value_bytes_;
  std::atomic<int64_t> next_file_{0};
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
