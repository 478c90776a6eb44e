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
#include <rocksdb/sst_file_writer.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/store/cold_store.h"
#include "server/store/cold_store_families.h"
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

  // `db` and the families outlive it. Files in the making lie in `folder`, under names that no other process gives.
  ColdStoreRuns(rocksdb::DB* db, const ColdStoreFamilies* families, const rocksdb::Options& options, const std::string& folder,
                int64_t value_bytes);

  // Removes what a process that was killed has left in the folder of an open store, whose lock keeps others out. Before any Add(): such a
  // file may be a second link of a table that the store has taken in, and must not be written to.
  static rocksdb::Status RemoveLeftovers(rocksdb::Env* env, const std::string& folder);

  // Adds records, the first ones to ColdStoreFamilies::stretches(), cut into files between partitions, the others to scattered(), in one
  // file. All or none are there, durable, when it returns. Requires: keys of each strictly increasing, none of both, none of a run that is
  // being added.
  rocksdb::Status Add(absl::Span<const ColdStore::Encoded> stretches, absl::Span<const ColdStore::Encoded> scattered);
  // The same of stretches beside which the store has no records of their keys: their tables need no filters.
  rocksdb::Status AddFirst(absl::Span<const ColdStore::Encoded> stretches);

 private:
  // A table file in the making, and the keys that it spans.
  struct File {
    std::string path;
    uint64_t first_key = 0;
    uint64_t last_key = 0;
  };
  // The files of a run that are built.
  struct Arrival {
    const std::vector<File>* stretches = nullptr;
    std::string scattered;  // The path of its file, if there is one.
    rocksdb::Status status;
    bool settled = false;
  };

  // Reads what RocksDB reads to find the level of a table of stretches that begins with a key: the blocks that the key stands before in all
  // others. They are in its cache then. It would read them for one table after the other, each read behind the writes of other runs. One of
  // scattered records needs no more than a look at the newest file, where it spans many keys.
  void ReadAround(uint64_t first_key) const;
  std::string NextPath();
  rocksdb::SstFileWriter NewWriter(bool filters) const;
  rocksdb::Status BuildStretches(absl::Span<const ColdStore::Encoded> records, bool first, const std::string& path) const;
  // What is deleted from there with the stretches, and what is put there.
  rocksdb::Status BuildScattered(absl::Span<const ColdStore::Encoded> stretches, absl::Span<const ColdStore::Encoded> scattered,
                                 const std::string& path) const;
  rocksdb::Status BuildAndTakeIn(absl::Span<const ColdStore::Encoded> stretches, bool first,
                                 absl::Span<const ColdStore::Encoded> scattered);

  // Puts built files into the store, with those of others that wait.
  rocksdb::Status TakeIn(const std::vector<File>& stretches, const std::string& scattered);
  // The arrival that waits longest, and all behind it of which no file spans keys of another one's.
  std::vector<Arrival*> NextGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  rocksdb::Status IngestGroup(absl::Span<Arrival* const> group) const;

  rocksdb::DB* const db_;
  const ColdStoreFamilies* const families_;
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
