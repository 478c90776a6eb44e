#ifndef MYRIAD_SERVER_STORE_COLD_STORE_FILES_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_FILES_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include <rocksdb/file_system.h>

namespace myriad {

// The file system as a cold store's RocksDB sees it. Three differences from `target`:
// - Errors of reads and writes are ones that may pass. RocksDB takes an I/O error for final and would refuse all writes until the store is
//   reopened, although rows that wait in memory could be written once a disk has room again; with this it tries again by itself.
// - A table file is synced once, when it is closed. RocksDB syncs it before and after it cuts it to size, and opens those that it is to
//   ingest once more to sync them: a flush of the disk each. Nobody uses a table before it is closed, and the folder is synced after that.
// - What it reads of a table while it takes it in comes from memory (fresh_tables.h).
//
// It counts what goes through it into `traffic`, which outlives it.
struct ColdStoreTraffic {
  std::atomic<int64_t> read_bytes{0};
  std::atomic<int64_t> written_bytes{0};
};
std::shared_ptr<rocksdb::FileSystem> MakeColdStoreFiles(std::shared_ptr<rocksdb::FileSystem> target, ColdStoreTraffic* traffic);

// Of such an error: the disk is full.
bool SaysDiskFull(const rocksdb::Status& status);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_FILES_H_
