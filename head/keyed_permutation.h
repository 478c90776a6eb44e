#ifndef MYRIAD_HEAD_KEYED_PERMUTATION_H_
#define MYRIAD_HEAD_KEYED_PERMUTATION_H_

#include <cstdint>

namespace myriad {

// A pseudorandom permutation of [0, size), chosen by `key`, in O(1) memory; At and Inverse are O(1) expected time.
//
// A Feistel network over the b = ceil(log2 size) bits of a number, split into halves of ceil(b/2) and floor(b/2) bits, each round
// xor-ing one half with a keyed hash of the other; results >= size are walked on (Black, Rogaway: Ciphers with arbitrary finite domains,
// 2002), fewer than 2 rounds of walking on average as 2^b < 2 size. A keyed rotation follows, so that At(i) is uniform over [0, size)
// over random keys exactly, even where a network over few bits would not be: the first n values are a sample in which every number
// has rate n/size.
//
// A value: copies are cheap. Thread-safe (immutable).
class KeyedPermutation {
 public:
  // Requires: size in [1, 2^62].
  KeyedPermutation(uint64_t size, uint64_t key);

  uint64_t size() const { return size_; }
  // Requires: i < size.
  uint64_t At(uint64_t i) const;
  // The i with At(i) = value. Requires: value < size.
  uint64_t Inverse(uint64_t value) const;

 private:
  uint64_t Encrypt(uint64_t x) const;
  uint64_t Decrypt(uint64_t x) const;

  uint64_t size_;
  uint64_t rotation_;
  int rounds_;
  int low_bits_;
  uint64_t low_mask_;
  uint64_t high_mask_;
  uint64_t round_key_;
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_KEYED_PERMUTATION_H_
