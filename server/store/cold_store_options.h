#ifndef MYRIAD_SERVER_STORE_COLD_STORE_OPTIONS_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_OPTIONS_H_

#include <cstdint>

#include <rocksdb/options.h>

#include "server/store/cold_store.h"

namespace myriad {

// A table file ends between two partitions once it has as many bytes, so that at ten million rows a partition that comes back rewrites
// itself and nothing else; and anywhere at the second number.
constexpr int64_t kLeastTableBytes = 4 << 20;
constexpr int64_t kMostTableBytes = 256 << 20;
// Files of a family's newest level from which on writers wait for compactions: each costs a read of keys that it spans a look at its
// filter.
constexpr int kMostNewestFiles = 160;
// And from which on those of stretches are merged into the next level: the more files a merge takes in, the fewer bytes of that level are
// written anew for each of theirs. Few come there: those that span keys of files in the levels between.
constexpr int kNewestFilesToCompact = 64;
// The same of scattered records, counted in sorted runs. Any of their files may have any record, so each costs every read a look: they are
// merged sooner, but with others of about their size, and all into one once those above the oldest run have twice its bytes.
constexpr int kScatteredRunsToCompact = 12;
// What is on its way when writers begin to wait still comes: kMostBytesWrittenAtOnce of tables, and the small last one of each run.
constexpr int kNewestFilesOnTheirWay = 32;

// Of scattered records. Stretches pass their memtables by, and notes are flushed one by one.
constexpr int64_t kMemtableBytes = 8 << 20;
constexpr int kMemtables = 2;
constexpr int64_t kNoMemtableBytes = 64 << 10;
constexpr int64_t kCompactionReadAhead = 128 << 10;
constexpr int64_t kBlockCacheBytes = 4 << 20;
constexpr int64_t kTableWriteBuffer = 256 << 10;
constexpr int kFilterBitsPerRecord = 10;
// A block ends with the record that reaches its size, and has a buffer of that size at first: of what two records of 2 KB and their keys
// are beyond 4 KB it would be made, and copied, a second time.
constexpr int64_t kBlockOverhang = 256;

// RocksDB's options for records in stretches (ColdStoreFamilies); `env`, listeners and direct I/O are the caller's to set.
rocksdb::Options ColdRocksOptions(const ColdStore::Options& options);
// For scattered records, and for the notes beside them.
rocksdb::ColumnFamilyOptions ScatteredFamilyOptions(const rocksdb::Options& stretches);
rocksdb::ColumnFamilyOptions NoteFamilyOptions(const rocksdb::Options& stretches);
// Files that RocksDB may keep open in this process; -1: all.
int MaxOpenFiles();

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_OPTIONS_H_
