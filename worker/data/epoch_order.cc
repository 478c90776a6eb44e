#include "worker/data/epoch_order.h"

#include "worker/data/random.h"

namespace myriad {

EpochOrder::EpochOrder(int64_t count, uint64_t key) : count_(count), key_(key) {
  int bits = 2;
  while ((int64_t{1} << bits) < count) ++bits;
  low_bits_ = bits / 2;
  high_bits_ = bits - low_bits_;
}

uint64_t EpochOrder::Permute(uint64_t value) const {
  // The halves may differ by a bit: each round adds a hash of one half to the other in place, which any widths can undo. Rounds are
  // many because halves of a few bits mix slowly.
  constexpr int kRounds = 12;
  const uint64_t low_mask = (uint64_t{1} << low_bits_) - 1;
  const uint64_t high_mask = (uint64_t{1} << high_bits_) - 1;
  uint64_t low = value & low_mask;
  uint64_t high = value >> low_bits_;
  for (int round = 0; round < kRounds; round += 2) {
    high = (high + (MixKey(key_ + round, low) >> 32)) & high_mask;
    low = (low + (MixKey(key_ + round + 1, high) >> 32)) & low_mask;
  }
  return (high << low_bits_) | low;
}

int64_t EpochOrder::At(int64_t place) const {
  uint64_t value = place;
  do value = Permute(value);
  while (value >= static_cast<uint64_t>(count_));
  return static_cast<int64_t>(value);
}

}  // namespace myriad
