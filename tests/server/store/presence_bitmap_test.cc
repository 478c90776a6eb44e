#include "server/store/presence_bitmap.h"

#include <algorithm>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace myriad {
namespace {

constexpr int64_t kClasses = 300001;

std::vector<RowKey> RandomKeys(const Partitions& partitions, int shard, int shard_count, int count) {
  std::mt19937_64 random(11);
  const auto [first, last] = partitions.ShardRange(shard, shard_count);
  std::vector<RowKey> keys;
  for (int i = 0; i < count; ++i) {
    const int32_t partition = first + static_cast<int32_t>(random() % (last - first));
    keys.push_back(KeyOfPlace({partition, static_cast<int64_t>(random() % partitions.size(partition))}));
  }
  return keys;
}

TEST(PresenceBitmapTest, HoldsWhatWasSet) {
  const Partitions partitions(kClasses, 3);
  PresenceBitmap bitmap(partitions, 1, 3);
  std::set<RowKey> expected;
  for (const RowKey key : RandomKeys(partitions, 1, 3, 5000)) {
    bitmap.Set(key);
    expected.insert(key);
  }
  for (const RowKey key : RandomKeys(partitions, 1, 3, 100)) {
    bitmap.Clear(key);
    expected.erase(key);
  }
  EXPECT_EQ(bitmap.count(), static_cast<int64_t>(expected.size()));
  const auto [first, last] = partitions.ShardRange(1, 3);
  for (int32_t partition = first; partition < last; ++partition) {
    for (int64_t index = 0; index < partitions.size(partition); ++index) {
      const RowKey key = KeyOfPlace({partition, index});
      ASSERT_EQ(bitmap.Test(key), expected.count(key) == 1);
    }
  }
}

TEST(PresenceBitmapTest, NextGoesThroughAllInOrderInPiecesOfAnySize) {
  const Partitions partitions(kClasses, 3);
  PresenceBitmap bitmap(partitions, 0, 1);
  std::set<RowKey> expected;
  for (const RowKey key : RandomKeys(partitions, 0, 1, 3000)) {
    bitmap.Set(key);
    expected.insert(key);
  }
  for (const int64_t piece : {1, 7, 64, 100000}) {
    std::vector<RowKey> seen;
    RowKey after = -1;
    while (true) {
      const std::vector<RowKey> keys = bitmap.Next(after, piece);
      seen.insert(seen.end(), keys.begin(), keys.end());
      if (static_cast<int64_t>(keys.size()) < piece) break;
      after = keys.back();
    }
    EXPECT_EQ(seen, std::vector<RowKey>(expected.begin(), expected.end())) << piece;
  }
}

TEST(PresenceBitmapTest, IsTheSameAfterSavingAndRefusesWhatIsNotItsOwn) {
  const Partitions partitions(kClasses, 3);
  PresenceBitmap bitmap(partitions, 0, 2);
  for (const RowKey key : RandomKeys(partitions, 0, 2, 3000)) bitmap.Set(key);
  const std::string bytes = bitmap.Serialize();

  PresenceBitmap read(partitions, 0, 2);
  ASSERT_TRUE(read.Parse(bytes).ok());
  EXPECT_EQ(read.count(), bitmap.count());
  EXPECT_EQ(read.Next(-1, kClasses), bitmap.Next(-1, kClasses));

  EXPECT_TRUE(absl::IsFailedPrecondition(PresenceBitmap(partitions, 1, 2).Parse(bytes)));
  EXPECT_TRUE(absl::IsFailedPrecondition(PresenceBitmap(Partitions(kClasses + 5000, 3), 0, 2).Parse(bytes)));
  EXPECT_TRUE(absl::IsDataLoss(read.Parse(bytes.substr(0, bytes.size() / 2))));
  EXPECT_TRUE(absl::IsDataLoss(read.Parse("")));
  for (const size_t at : {size_t{3}, size_t{40}, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] ^= 1;
    EXPECT_TRUE(absl::IsDataLoss(read.Parse(damaged))) << at;
  }
  EXPECT_EQ(read.Next(-1, kClasses), bitmap.Next(-1, kClasses)) << "a refused file changed the bitmap";
}

}  // namespace
}  // namespace myriad
