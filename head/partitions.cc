#include "head/partitions.h"

#include "head/counter_random.h"

namespace myriad {
namespace {

constexpr uint64_t kPlacementPurpose = 1;

KeyedPermutation BlockPermutation(uint64_t seed, int partition_count, int64_t block) {
  return KeyedPermutation(static_cast<uint64_t>(partition_count), StreamKey(seed, kPlacementPurpose, static_cast<uint64_t>(block)));
}

}  // namespace

Partitions::Partitions(int64_t class_count, uint64_t seed, int partition_count)
    : class_count_(class_count),
      seed_(seed),
      partition_count_(partition_count),
      last_block_(BlockPermutation(seed, partition_count, class_count / partition_count)) {}

Partitions::Place Partitions::Locate(int64_t class_id) const {
  const int64_t block = class_id / partition_count_;
  const KeyedPermutation permutation = BlockPermutation(seed_, partition_count_, block);
  return Place{static_cast<int32_t>(permutation.At(static_cast<uint64_t>(class_id % partition_count_))), block};
}

int64_t Partitions::ClassAt(Place place) const {
  const KeyedPermutation permutation = BlockPermutation(seed_, partition_count_, place.index);
  return place.index * partition_count_ + static_cast<int64_t>(permutation.Inverse(static_cast<uint64_t>(place.partition)));
}

int64_t Partitions::size(int32_t partition) const {
  const int64_t full_blocks = class_count_ / partition_count_;
  const uint64_t rest = static_cast<uint64_t>(class_count_ % partition_count_);
  if (rest == 0) return full_blocks;
  return full_blocks + (last_block_.Inverse(static_cast<uint64_t>(partition)) < rest ? 1 : 0);
}

std::pair<int32_t, int32_t> Partitions::ShardRange(int shard, int shard_count) const {
  const int64_t partitions = partition_count_;
  return {static_cast<int32_t>(shard * partitions / shard_count), static_cast<int32_t>((shard + 1) * partitions / shard_count)};
}

int Partitions::ShardOfPartition(int32_t partition, int shard_count) const {
  // The k with k P / K <= p < (k+1) P / K, both rounded down: the largest k with k P < (p + 1) K.
  return static_cast<int>(((static_cast<int64_t>(partition) + 1) * shard_count - 1) / partition_count_);
}

int Partitions::ShardOfClass(int64_t class_id, int shard_count) const { return ShardOfPartition(Locate(class_id).partition, shard_count); }

int64_t Partitions::ShardSize(int shard, int shard_count) const {
  const auto [first, last] = ShardRange(shard, shard_count);
  int64_t total = 0;
  for (int32_t partition = first; partition < last; ++partition) total += size(partition);
  return total;
}

}  // namespace myriad
