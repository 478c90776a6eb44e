#ifndef MYRIAD_SERVER_STORE_COLD_RECORD_H_
#define MYRIAD_SERVER_STORE_COLD_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <xxhash.h>

#include "server/store/row_key.h"

namespace myriad {

// A record as it lies on the disk (docs/formats.md). Key: 8 bytes, big-endian, so that the order of bytes is the order of numbers; the
// first 3 are the partition. Value: the step, 8 bytes little-endian; an XXH3 checksum over key, step and bytes, 8 bytes; the bytes.
constexpr int64_t kColdKeyBytes = 8;
constexpr int64_t kColdPartitionBytes = (64 - kRowKeyIndexBits) / 8;
constexpr int64_t kColdHeaderBytes = 16;

inline void EncodeColdKey(uint64_t key, char* out) {
  for (int i = kColdKeyBytes - 1; i >= 0; --i, key >>= 8) out[i] = static_cast<char>(key & 0xff);
}
inline uint64_t DecodeColdKey(const char* bytes) {
  uint64_t key = 0;
  for (int i = 0; i < kColdKeyBytes; ++i) key = key << 8 | static_cast<uint8_t>(bytes[i]);
  return key;
}

inline uint64_t ColdChecksum(uint64_t key, int64_t step, const void* bytes, int64_t count) {
  return XXH3_64bits_withSeed(bytes, count, key * 0x9e3779b97f4a7c15u ^ static_cast<uint64_t>(step));
}

// The header of a value whose `count` bytes lie behind it already.
inline void SealColdValue(uint64_t key, int64_t step, int64_t count, char* value) {
  const uint64_t checksum = ColdChecksum(key, step, value + kColdHeaderBytes, count);
  std::memcpy(value, &step, 8);
  std::memcpy(value + 8, &checksum, 8);
}
inline int64_t StepOfColdValue(const char* value) {
  int64_t step = 0;
  std::memcpy(&step, value, 8);
  return step;
}
// False if the checksum is wrong. `value` has kColdHeaderBytes + count.
inline bool DecodeColdValue(uint64_t key, const char* value, int64_t count, int64_t* step) {
  uint64_t checksum = 0;
  std::memcpy(step, value, 8);
  std::memcpy(&checksum, value + 8, 8);
  return checksum == ColdChecksum(key, *step, value + kColdHeaderBytes, count);
}

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_RECORD_H_
