#ifndef MYRIAD_HEAD_PARTITIONS_H_
#define MYRIAD_HEAD_PARTITIONS_H_

#include <cstdint>
#include <utility>

#include "head/keyed_permutation.h"

namespace myriad {

// Where the classes of a head lie (design section 2). Class c lies in block b = c div P; its partition is pi_b(c mod P), a keyed
// permutation of [0, P) per block; its index in the partition is b. Both directions are O(1) without tables; partition sizes differ by
// at most one; a new class only appends. Partitions go to shards by contiguous range: shard k of K owns [k P / K, (k+1) P / K).
// A value: copies are cheap. Thread-safe (immutable).
class Partitions {
 public:
  struct Place {
    int32_t partition;  // In [0, P).
    int64_t index;      // In [0, size(partition)).
    friend bool operator==(const Place& a, const Place& b) { return a.partition == b.partition && a.index == b.index; }
  };

  // Requires: class_count in [1, 2^40], partition_count a power of two in [1, 65536].
  Partitions(int64_t class_count, uint64_t seed, int partition_count = 4096);

  int64_t class_count() const { return class_count_; }
  int partition_count() const { return partition_count_; }

  // Requires: class_id in [0, N).
  Place Locate(int64_t class_id) const;
  // The inverse. Requires: place.index < size(place.partition).
  int64_t ClassAt(Place place) const;
  // Classes in a partition: floor(N/P) or one more.
  int64_t size(int32_t partition) const;

  // Partitions of shard `shard` of `shard_count`, as [first, last). May be empty when shard_count > P.
  std::pair<int32_t, int32_t> ShardRange(int shard, int shard_count) const;
  int ShardOfPartition(int32_t partition, int shard_count) const;
  int ShardOfClass(int64_t class_id, int shard_count) const;
  // Classes that a shard owns.
  int64_t ShardSize(int shard, int shard_count) const;

 private:
  int64_t class_count_;
  uint64_t seed_;
  int partition_count_;
  KeyedPermutation last_block_;  // Of the block that is not full, which decides the partitions that have one class more.
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_PARTITIONS_H_
