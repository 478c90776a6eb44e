#ifndef MYRIAD_HEAD_COUNTER_RANDOM_H_
#define MYRIAD_HEAD_COUNTER_RANDOM_H_

#include <cstdint>

namespace myriad {

// Random numbers as pure functions of keys and counters: no state, no order, the same on every machine.

// A bijection of 64-bit numbers in which every output bit depends on every input bit: the finalizer of SplitMix64
// (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014; constants by David Stafford, "variant 13").
inline uint64_t Mix64(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  x ^= x >> 31;
  return x;
}

// The key of a stream: `seed` joined with up to two counters. Callers separate their uses by a `purpose` of their own.
inline uint64_t StreamKey(uint64_t seed, uint64_t purpose, uint64_t a = 0, uint64_t b = 0) {
  uint64_t key = Mix64(seed + 0x9e3779b97f4a7c15u * (purpose + 1));
  key = Mix64(key ^ (a + 0xd1b54a32d192ed03u));
  return Mix64(key + 0x8cb92ba72f3d8dd7u * (b + 1));
}

// `random` (uniform in [0, 2^64)) mapped to [0, bound): each value has probability 1/bound to within 2^-64. Requires: bound > 0.
inline uint64_t UniformBelow(uint64_t random, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random) * bound) >> 64);
}

}  // namespace myriad

#endif  // MYRIAD_HEAD_COUNTER_RANDOM_H_
