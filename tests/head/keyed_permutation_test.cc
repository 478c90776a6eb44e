#include "head/keyed_permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/counter_random.h"

namespace myriad {
namespace {

TEST(KeyedPermutationTest, EveryValueOccursOnceAndInverseFindsIt) {
  for (uint64_t size : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 100, 1000, 4095, 4096, 4097}) {
    for (uint64_t key = 0; key < 20; ++key) {
      SCOPED_TRACE(absl::StrCat("size ", size, ", key ", key));
      const KeyedPermutation permutation(size, key);
      std::vector<bool> seen(size, false);
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t value = permutation.At(i);
        ASSERT_LT(value, size);
        ASSERT_FALSE(seen[value]);
        seen[value] = true;
        ASSERT_EQ(permutation.Inverse(value), i);
      }
    }
  }
}

TEST(KeyedPermutationTest, InverseHoldsAtSizesNobodyCouldTabulate) {
  for (uint64_t size : {(uint64_t{1} << 28) + 3, uint64_t{1'000'000'007}, uint64_t{1} << 40, (uint64_t{1} << 40) + 1, uint64_t{1} << 62}) {
    SCOPED_TRACE(size);
    const KeyedPermutation permutation(size, 99);
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t at = UniformBelow(Mix64(i), size);
      const uint64_t value = permutation.At(at);
      ASSERT_LT(value, size);
      ASSERT_EQ(permutation.Inverse(value), at);
    }
  }
}

// Over random keys every position is uniform, and so are pairs of positions: what a sample's rates rest on.
TEST(KeyedPermutationTest, PositionsAndPairsAreUniformOverKeys) {
  constexpr int kKeys = 60000;
  for (uint64_t size : {2, 3, 4, 5, 7, 8, 13, 17, 40}) {
    SCOPED_TRACE(size);
    std::vector<double> first(size, 0.0), pairs(size * size, 0.0);
    for (uint64_t key = 0; key < kKeys; ++key) {
      const KeyedPermutation permutation(size, Mix64(key));
      const uint64_t a = permutation.At(0), b = permutation.At(1);
      ++first[a];
      ++pairs[a * size + b];
    }
    double chi_first = 0.0, chi_pairs = 0.0;
    const double expected_first = static_cast<double>(kKeys) / size, expected_pair = expected_first / (size - 1);
    for (double count : first) chi_first += std::pow(count - expected_first, 2) / expected_first;
    for (uint64_t a = 0; a < size; ++a) {
      for (uint64_t b = 0; b < size; ++b) {
        if (a != b) chi_pairs += std::pow(pairs[a * size + b] - expected_pair, 2) / expected_pair;
      }
    }
    const double freedom_first = size - 1, freedom_pairs = size * (size - 1) - 1;
    EXPECT_LT(chi_first, freedom_first + 5 * std::sqrt(2 * freedom_first));
    EXPECT_LT(chi_pairs, freedom_pairs + 6 * std::sqrt(2 * freedom_pairs));
  }
}

TEST(KeyedPermutationTest, KeysGiveUnrelatedOrders) {
  const KeyedPermutation a(4096, 1), b(4096, 2);
  int equal = 0;
  for (uint64_t i = 0; i < 4096; ++i) equal += a.At(i) == b.At(i);
  EXPECT_LT(equal, 10);  // 1 is expected.
}

}  // namespace
}  // namespace myriad
