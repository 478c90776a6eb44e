#ifndef MYRIAD_SERVER_STORE_ROW_KEY_H_
#define MYRIAD_SERVER_STORE_ROW_KEY_H_

#include <cstdint>

#include "head/partitions.h"

namespace myriad {

// A row's place as one number, ordered by (partition, index): the order on disk and of scans. It does not change when classes are added,
// and a partition is one range of keys.
using RowKey = int64_t;

constexpr int kRowKeyIndexBits = 40;

inline RowKey KeyOfPlace(const Partitions::Place& place) { return static_cast<int64_t>(place.partition) << kRowKeyIndexBits | place.index; }
inline Partitions::Place PlaceOfKey(RowKey key) {
  return {static_cast<int32_t>(key >> kRowKeyIndexBits), key & ((int64_t{1} << kRowKeyIndexBits) - 1)};
}

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_KEY_H_
