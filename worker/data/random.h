#ifndef MYRIAD_WORKER_DATA_RANDOM_H_
#define MYRIAD_WORKER_DATA_RANDOM_H_

#include <cstdint>

namespace myriad {

// Mixes a key and a number into a new key (SplitMix64's finalizer on both).
inline uint64_t MixKey(uint64_t key, uint64_t number) {
  uint64_t z = key + 0x9E3779B97F4A7C15ull * (number + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// A small random sequence that is a pure function of its key: the same on every machine and build, unlike std::*_distribution.
class KeyedRandom {
 public:
  explicit KeyedRandom(uint64_t key) : key_(key) {}

  uint64_t Next() { return MixKey(key_, count_++); }
  // Uniform in [0, 1), a multiple of 2^-53.
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Uniform in [-range, range).
  double Symmetric(double range) { return (2 * Unit() - 1) * range; }
  // Uniform in [0, bound) up to 2^-64 * bound. Requires: bound >= 1.
  uint64_t Below(uint64_t bound) { return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * bound) >> 64); }

 private:
  uint64_t key_;
  uint64_t count_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_RANDOM_H_
