#ifndef MYRIAD_SERVER_STORE_COLD_STORE_ROCKSDB_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_ROCKSDB_H_

#include <memory>

#include <rocksdb/file_system.h>

#include "absl/status/statusor.h"
#include "server/store/cold_store.h"

namespace myriad {

// ColdStore::Open() on a file system of the caller's, such as one that fails on demand or keeps a record of what it is asked.
absl::StatusOr<std::unique_ptr<ColdStore>> OpenColdStoreOn(std::shared_ptr<rocksdb::FileSystem> files, const ColdStore::Options& options);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_ROCKSDB_H_
