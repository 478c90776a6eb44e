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

  class FirstRun;

 private:
  // A table of stretches, and the keys that it spans.
  struct File {
    std::string path;
    uint64_t first_key = 0;
    uint64_t last_key = 0;
  };
  // Table files beside the store, to be taken in.
  struct Tables {
    std::vector<File> stretches;
    std::string scattered;  // The path of the file, if there is one.
  };

  // Tables that are built and wait for their turn.
  struct Arrival {
    const Tables* tables = nullptr;
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
  // Those of stretches side by side; a run that is not the first has a table of scattered records too. None is left where it fails.
  rocksdb::Status Build(absl::Span<const ColdStore::Encoded> stretches, absl::Span<const ColdStore::Encoded> scattered, bool first,
                        Tables* tables);
  void Delete(const Tables& tables) const;

  // Puts tables into the store, with those of others that wait, or deletes them.
  rocksdb::Status TakeIn(const Tables& tables);
  // The arrival that waits longest, and all behind it of which no file spans keys of another one's.
  std::vector<Arrival*> NextGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  rocksdb::Status IngestGroup(absl::Span<Arrival* const> group) const;

  rocksdb::DB* const db_;
  const ColdStoreFamilies* const families_;
  const rocksdb::Options options_;
  // Build files, of all runs; a run of one file is built by its caller. Some compute while others wait for their writes. Reads have threads
  // of their own.
  IoPool builders_;
  std::string prefix_;  // Of the paths of files in the making.
  const int64_t value_bytes_;
  std::atomic<int64_t> next_file_{0};
  absl::Mutex mu_;
  std::deque<Arrival*> arrivals_ ABSL_GUARDED_BY(mu_);
  bool taking_in_ ABSL_GUARDED_BY(mu_) = false;
};

// Stretches beside which the store has no records of their keys, part by part: their tables need no filters, and as they come by the
// thousand, many are taken in together. Thread-safe.
class ColdStoreRuns::FirstRun {
 public:
  // Tables from which on those that wait are taken in.
  static constexpr int kTables = 32;

  explicit FirstRun(ColdStoreRuns* runs) : runs_(runs) {}
  // What is not taken in by then never will be.
  ~FirstRun();
  FirstRun(const FirstRun&) = delete;
  FirstRun& operator=(const FirstRun&) = delete;

  // Requires: keys of a part strictly increasing, none of another part.
  rocksdb::Status Add(absl::Span<const ColdStore::Encoded> part);
  // All parts whose Add() returned OK are there, durable, when it does.
  rocksdb::Status Finish();

 private:
  ColdStoreRuns* const runs_;
  absl::Mutex mu_;
  Tables waiting_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_RUNS_H_
