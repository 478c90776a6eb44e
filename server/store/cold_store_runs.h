#ifndef MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/store/cold_store.h"
#include "server/store/io_pool.h"

namespace myriad {

// Sorted runs of records into table files of the store, past its memtables: each byte is written once. Runs that are added at the same time
// are built side by side and taken in together: the store's list of files is written anew, and looked through, once for all of them.
// Thread-safe.
class ColdStoreRuns {
 public:
  // Threads that build files, of all runs; a run of one file is built by its caller. Some compute while others wait for their writes. Reads
  // have threads of their own.
  static constexpr int kBuilders = 8;

  // `db` outlives it. Files in the making lie in `folder`, under names that no other process gives.
  ColdStoreRuns(rocksdb::DB* db, const rocksdb::Options& options, const std::string& folder, int64_t value_bytes);

  // Removes what a process that was killed has left in the folder of an open store, whose lock keeps others out. Before any Add(): such a
  // file may be a second link of a table that the store has taken in, and must not be written to.
  static rocksdb::Status RemoveLeftovers(rocksdb::Env* env, const std::string& folder);

  enum class Kind {
    kLowest,      // Cut between partitions; nothing in the store lies below the run, so its tables need no filters.
    kPartitions,  // Cut between partitions.
    kScattered,   // In one piece: any file of it would cover about all keys.
  };
  // Durable when it returns; nothing is left behind otherwise. Requires: keys strictly increasing, none of a run that is being added.
  rocksdb::Status Add(absl::Span<const ColdStore::Encoded> records, Kind kind);

 private:
  // A table file in the making, and the keys that it spans.
  struct File {
    std::string path;
    uint64_t first_key = 0;
    uint64_t last_key = 0;
  };
  // The files of a run that are built.
  struct Arrival {
    const std::vector<File>* files = nullptr;
    rocksdb::Status status;
    bool settled = false;
  };

  // Reads what RocksDB reads to find the level of a table that begins with a key: the blocks that the key stands before in all others. They
  // are in its cache then. It would read them for one table after the other, each read behind the writes of other runs.
  void ReadAround(uint64_t first_key) const;
  rocksdb::Status Build(absl::Span<const ColdStore::Encoded> records, Kind kind, const std::string& path) const;

  // Puts built files into the store, with those of others that wait.
  rocksdb::Status TakeIn(const std::vector<File>& files);
  // The arrival that waits longest, and all behind it of which no file spans keys of another one's.
  std::vector<Arrival*> NextGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  rocksdb::Status IngestGroup(absl::Span<Arrival* const> group) const;

  rocksdb::DB* const db_;
  const rocksdb::Options options_;
  IoPool builders_;
  std::string prefix_;  // Of the paths of files in the making.
  const int64_t value_bytes_;
  std::atomic<int64_t> next_file_{0};
  absl::Mutex mu_;
  std::deque<Arrival*> arrivals_ ABSL_GUARDED_BY(mu_);
  bool taking_in_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
