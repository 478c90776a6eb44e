#include "head/partitions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/counter_random.h"

namespace myriad {
namespace {

TEST(PartitionsTest, ClassesAndPlacesCorrespondOneToOne) {
  for (int64_t class_count : {int64_t{1}, int64_t{2}, int64_t{4095}, int64_t{4096}, int64_t{4097}, int64_t{50'021}}) {
    SCOPED_TRACE(class_count);
    const Partitions partitions(class_count, 7);
    std::vector<std::vector<bool>> taken(partitions.partition_count());
    for (int32_t p = 0; p < partitions.partition_count(); ++p) taken[p].resize(partitions.size(p), false);
    for (int64_t class_id = 0; class_id < class_count; ++class_id) {
      const Partitions::Place place = partitions.Locate(class_id);
      ASSERT_LT(place.index, partitions.size(place.partition));
      ASSERT_FALSE(taken[place.partition][place.index]);
      taken[place.partition][place.index] = true;
      ASSERT_EQ(partitions.ClassAt(place), class_id);
    }
    int64_t total = 0;
    for (const auto& partition : taken) total += std::count(partition.begin(), partition.end(), true);
    EXPECT_EQ(total, class_count);
  }
}

TEST(PartitionsTest, SizesDifferByAtMostOneAndSumToTheClasses) {
  for (int64_t class_count : {int64_t{1}, int64_t{4097}, int64_t{1'000'003}, int64_t{1'000'000'000}, int64_t{1} << 40}) {
    SCOPED_TRACE(class_count);
    const Partitions partitions(class_count, 11);
    int64_t total = 0;
    for (int32_t p = 0; p < partitions.partition_count(); ++p) {
      const int64_t size = partitions.size(p);
      EXPECT_GE(size, class_count / 4096);
      EXPECT_LE(size, class_count / 4096 + 1);
      total += size;
    }
    EXPECT_EQ(total, class_count);
  }
}

TEST(PartitionsTest, GrowthOnlyAppends) {
  const Partitions small(10'000, 3), large(123'457, 3);
  for (int64_t class_id = 0; class_id < 10'000; ++class_id) EXPECT_EQ(small.Locate(class_id), large.Locate(class_id));
  for (int64_t class_id = 10'000; class_id < 123'457; ++class_id) {
    const Partitions::Place place = large.Locate(class_id);
    ASSERT_GE(place.index, small.size(place.partition)) << "class " << class_id << " took the place of an old one";
  }
}

TEST(PartitionsTest, HugeHeadsRoundTrip) {
  for (int64_t class_count : {int64_t{1'000'000'000}, int64_t{1} << 40}) {
    const Partitions partitions(class_count, 5);
    for (uint64_t i = 0; i < 2000; ++i) {
      const int64_t class_id = static_cast<int64_t>(UniformBelow(Mix64(i), static_cast<uint64_t>(class_count)));
      const Partitions::Place place = partitions.Locate(class_id);
      ASSERT_LT(place.index, partitions.size(place.partition));
      ASSERT_EQ(partitions.ClassAt(place), class_id);
    }
  }
}

// Ids sorted by frequency still balance: neighbours, and ids with a common stride, lie all over the partitions.
TEST(PartitionsTest, StridesOfClassesSpreadOverShards) {
  const Partitions partitions(10'000'000, 5);
  for (int64_t stride : {1, 2, 64, 4096, 8192}) {
    SCOPED_TRACE(stride);
    std::vector<int> on_shard(8, 0);
    for (int64_t i = 0; i < 1000; ++i) ++on_shard[partitions.ShardOfClass(i * stride, 8)];
    for (int count : on_shard) EXPECT_NEAR(count, 125, 60);
  }
}

TEST(PartitionsTest, ShardsOwnContiguousRangesThatCoverAllPartitions) {
  const Partitions partitions(99'991, 5);
  for (int shard_count : {1, 2, 3, 7, 100, 4095, 4096, 5000}) {
    SCOPED_TRACE(shard_count);
    int32_t next = 0;
    int64_t classes = 0;
    for (int shard = 0; shard < shard_count; ++shard) {
      const auto [first, last] = partitions.ShardRange(shard, shard_count);
      ASSERT_EQ(first, next);
      next = last;
      for (int32_t p = first; p < last; ++p) ASSERT_EQ(partitions.ShardOfPartition(p, shard_count), shard);
      if (shard_count <= 7) classes += partitions.ShardSize(shard, shard_count);
    }
    EXPECT_EQ(next, partitions.partition_count());
    EXPECT_TRUE(shard_count > 7 || classes == 99'991) << classes;
  }
}

TEST(PartitionsTest, OtherSeedsPlaceOtherwise) {
  const Partitions a(100'000, 1), b(100'000, 2);
  int equal = 0;
  for (int64_t class_id = 0; class_id < 10'000; ++class_id) equal += a.Locate(class_id) == b.Locate(class_id);
  EXPECT_LT(equal, 20);
}

// Files and shards rest on these numbers: they may never change.
TEST(PartitionsTest, PlacementIsFrozen) {
  const Partitions partitions(1'000'000'000, 42);
  std::string places;
  for (int64_t class_id : {int64_t{0}, int64_t{1}, int64_t{4096}, int64_t{999'999'999}}) {
    const Partitions::Place place = partitions.Locate(class_id);
    absl::StrAppend(&places, place.partition, ":", place.index, " ");
  }
  EXPECT_EQ(places, "3835:0 1799:0 3791:1 3878:244140 ");
}

TEST(PartitionsTest, FewPartitionsWork) {
  for (int partition_count : {1, 2, 8, 65536}) {
    const Partitions partitions(1001, 9, partition_count);
    std::set<std::pair<int32_t, int64_t>> places;
    for (int64_t class_id = 0; class_id < 1001; ++class_id) {
      const Partitions::Place place = partitions.Locate(class_id);
      EXPECT_EQ(partitions.ClassAt(place), class_id);
      places.insert({place.partition, place.index});
    }
    EXPECT_EQ(places.size(), 1001u);
  }
}

}  // namespace
}  // namespace myriad
