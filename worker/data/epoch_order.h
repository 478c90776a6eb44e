#ifndef MYRIAD_WORKER_DATA_EPOCH_ORDER_H_
#define MYRIAD_WORKER_DATA_EPOCH_ORDER_H_

#include <cstdint>

namespace myriad {

// The order of N images in one epoch: a permutation of [0, N) that is a pure function of `key`. A Feistel network on the smallest power of
// two that holds N, walked until it lands inside: O(1) for any place, no table, so a run can go on in the middle of an epoch of any size.
// A value. Thread-safe (immutable).
class EpochOrder {
 public:
  // Requires: count in [1, 2^62].
  EpochOrder(int64_t count, uint64_t key);

  // The image at `place`. Requires: place in [0, N).
  int64_t At(int64_t place) const;

 private:
  uint64_t Permute(uint64_t value) const;

  int64_t count_;
  uint64_t key_;
  int low_bits_;
  int high_bits_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_EPOCH_ORDER_H_
