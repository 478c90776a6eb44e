#ifndef MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <rocksdb/db.h>
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

  // All outlive it. Files in the making lie in `folder`.
  ColdStoreRuns(rocksdb::DB* db, const rocksdb::Options& options, IoPool* pool, std::string folder, int64_t value_bytes);

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
  const std::string folder_;
  const int64_t value_bytes_;
  std::atomic<int64_t> next_file_{0};
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
