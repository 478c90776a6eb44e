#include "worker/data/epoch_order.h"

#include <vector>

#include "gtest/gtest.h"

namespace myriad {
namespace {

TEST(EpochOrderTest, EveryImageComesOnce) {
  for (const int64_t count : {1, 2, 3, 4, 5, 17, 100, 1000, 4097}) {
    const EpochOrder order(count, 42);
    std::vector<int> seen(count, 0);
    for (int64_t place = 0; place < count; ++place) {
      const int64_t image = order.At(place);
      ASSERT_GE(image, 0);
      ASSERT_LT(image, count);
      ++seen[image];
    }
    for (const int times : seen) ASSERT_EQ(times, 1) << count;
  }
}

TEST(EpochOrderTest, LargeSetsNeedNoTable) {
  const int64_t count = (int64_t{1} << 50) + 12345;
  const EpochOrder order(count, 7);
  EXPECT_NE(order.At(0), order.At(1));
  EXPECT_LT(order.At(count - 1), count);
}

// Over many keys each image comes to each place equally often: chi-square with 63 degrees of freedom, five sigma.
TEST(EpochOrderTest, PlacesAreUniformOverKeys) {
  constexpr int kCount = 64, kKeys = 20000;
  for (const int place : {0, 1, 31, 63}) {
    std::vector<int> seen(kCount, 0);
    for (int key = 0; key < kKeys; ++key) ++seen[EpochOrder(kCount, key).At(place)];
    double chi = 0;
    for (const int times : seen) chi += (times - 312.5) * (times - 312.5) / 312.5;
    EXPECT_LT(chi, 63 + 5 * 11.2) << "place " << place;
  }
}

// Neighbours in one order are not neighbours in another, as a fixed pattern of batches would be.
TEST(EpochOrderTest, PairsMeetAsOftenAsByChance) {
  constexpr int kCount = 100, kBatch = 10, kKeys = 20000;
  int met = 0;
  for (int key = 0; key < kKeys; ++key) {
    const EpochOrder order(kCount, key * 77);
    int place[2] = {-1, -1};
    for (int p = 0; p < kCount; ++p) {
      if (order.At(p) == 4) place[0] = p;
      if (order.At(p) == 5) place[1] = p;
    }
    met += place[0] / kBatch == place[1] / kBatch;
  }
  // 9/99 of 20,000 = 1,818 with deviation 41.
  EXPECT_NEAR(met, 1818, 5 * 41);
}

}  // namespace
}  // namespace myriad
