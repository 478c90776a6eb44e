#ifndef MYRIAD_SERVER_STORE_COLD_STORE_SLICES_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_SLICES_H_

#include <cstdint>

#include <rocksdb/slice.h>

#include "absl/strings/string_view.h"
#include "server/store/cold_record.h"

namespace myriad {

inline rocksdb::Slice SliceOf(absl::string_view bytes) { return {bytes.data(), bytes.size()}; }

// The key of a record, for RocksDB.
class ColdKey {
 public:
  explicit ColdKey(uint64_t key = 0) { EncodeColdKey(key, bytes_); }
  // Points into the object.
  rocksdb::Slice slice() const { return {bytes_, kColdKeyBytes}; }

 private:
  char bytes_[kColdKeyBytes];
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_SLICES_H_
