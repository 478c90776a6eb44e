#include "head/keyed_permutation.h"

#include "head/counter_random.h"

namespace myriad {
namespace {

// The round function: well mixed upper bits of one multiplication-based hash (Mix64 without its last steps would leave low bits weak, so
// the upper half is folded down).
inline uint64_t RoundHash(uint64_t half, uint64_t key) {
  uint64_t x = (half + key) * 0x9e3779b97f4a7c15u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x >> 32;
}

inline uint64_t RoundKey(uint64_t key, int round) { return key + 0xa0761d6478bd642fu * static_cast<uint64_t>(round + 1); }

}  // namespace

KeyedPermutation::KeyedPermutation(uint64_t size, uint64_t key)
    : size_(size), rotation_(UniformBelow(Mix64(key ^ 0x5851f42d4c957f2du), size)), round_key_(Mix64(key)) {
  int bits = 0;
  while ((uint64_t{1} << bits) < size) ++bits;
  const int high_bits = (bits + 1) / 2;
  low_bits_ = bits - high_bits;
  // A round over few bits has few functions to choose from: small networks need more of them before pairs of values are uniform.
  rounds_ = bits <= 8 ? 20 : 6;
  low_mask_ = (uint64_t{1} << low_bits_) - 1;
  high_mask_ = (uint64_t{1} << high_bits) - 1;
}

uint64_t KeyedPermutation::Encrypt(uint64_t x) const {
  uint64_t low = x & low_mask_;
  uint64_t high = x >> low_bits_;
  for (int round = 0; round < rounds_; round += 2) {
    high ^= RoundHash(low, RoundKey(round_key_, round)) & high_mask_;
    low ^= RoundHash(high, RoundKey(round_key_, round + 1)) & low_mask_;
  }
  return (high << low_bits_) | low;
}

uint64_t KeyedPermutation::Decrypt(uint64_t x) const {
  uint64_t low = x & low_mask_;
  uint64_t high = x >> low_bits_;
  for (int round = rounds_ - 2; round >= 0; round -= 2) {
    low ^= RoundHash(high, RoundKey(round_key_, round + 1)) & low_mask_;
    high ^= RoundHash(low, RoundKey(round_key_, round)) & high_mask_;
  }
  return (high << low_bits_) | low;
}

uint64_t KeyedPermutation::At(uint64_t i) const {
  do {
    i = Encrypt(i);
  } while (i >= size_);
  i += rotation_;
  return i >= size_ ? i - size_ : i;
}

uint64_t KeyedPermutation::Inverse(uint64_t value) const {
  value = value >= rotation_ ? value - rotation_ : value + size_ - rotation_;
  do {
    value = Decrypt(value);
  } while (value >= size_);
  return value;
}

}  // namespace myriad
