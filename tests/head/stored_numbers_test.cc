#include "head/stored_numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

namespace myriad {
namespace {

constexpr DataType kTypes[] = {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16};
constexpr DataType k16Bit[] = {DataType::kBFloat16, DataType::kFloat16};

std::vector<float> RoundTrip(DataType type, const std::vector<float>& values, const uint64_t* key = nullptr) {
  std::vector<std::byte> stored(values.size() * BytesOf(type));
  if (key == nullptr) {
    StoreNearest(type, values.data(), values.size(), stored.data());
  } else {
    StoreStochastically(type, *key, values.data(), values.size(), stored.data());
  }
  std::vector<float> back(values.size());
  Widen(type, stored.data(), values.size(), back.data());
  return back;
}

float LibTorch(DataType type, float value) {
  if (type == DataType::kBFloat16) return static_cast<float>(c10::BFloat16(value));
  return type == DataType::kFloat16 ? static_cast<float>(c10::Half(value)) : value;
}

std::vector<float> AllMagnitudes(int count, float largest) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<float> exponent(-45.0f, std::log2(largest) - 0.01f);
  std::vector<float> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(std::exp2(exponent(random)) * ((i & 1) == 0 ? 1.0f : -1.0f));
  }
  return values;
}

TEST(StoredNumbersTest, NearestIsLibTorchsRounding) {
  for (const DataType type : kTypes) {
    const std::vector<float> values = AllMagnitudes(20001, 65504.0f);
    const std::vector<float> back = RoundTrip(type, values);
    for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(back[i], LibTorch(type, values[i])) << values[i];
  }
}

TEST(StoredNumbersTest, WhatFitsComesBackAsItWas) {
  const uint64_t key = 99;
  for (const DataType type : kTypes) {
    std::vector<float> values = RoundTrip(type, AllMagnitudes(5003, 65504.0f));
    values.push_back(0.0f);
    values.push_back(-0.0f);
    const std::vector<float> nearest = RoundTrip(type, values), drawn = RoundTrip(type, values, &key);
    EXPECT_EQ(std::memcmp(nearest.data(), values.data(), values.size() * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(drawn.data(), values.data(), values.size() * sizeof(float)), 0);
  }
}

TEST(StoredNumbersTest, AFiniteNumberStaysFiniteAndOthersStayWhatTheyAre) {
  const uint64_t key = 5;
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {3.4028e38f, -3.4028e38f, infinity, -infinity, std::nanf("1")};
  for (const DataType type : k16Bit) {
    const float largest = type == DataType::kBFloat16 ? 3.38953139e38f : 65504.0f;
    for (const std::vector<float>& back : {RoundTrip(type, values), RoundTrip(type, values, &key)}) {
      EXPECT_EQ(back[0], largest);
      EXPECT_EQ(back[1], -largest);
      EXPECT_EQ(back[2], infinity);
      EXPECT_EQ(back[3], -infinity);
      EXPECT_TRUE(std::isnan(back[4]));
    }
  }
}

// Each value lies a known part of the way between two stored numbers; over many keys it goes up in that part of the draws.
TEST(StoredNumbersTest, StochasticRoundingHasTheValueAsItsMean) {
  constexpr int kKeys = 20000;
  for (const DataType type : k16Bit) {
    const double unit = type == DataType::kBFloat16 ? 0x1p-7 : 0x1p-10;  // Between neighbours in [1, 2).
    const double tiny_unit = 0x1p-24;                                    // Between subnormal halves.
    std::vector<float> values = {static_cast<float>(1 + 0.25 * unit), static_cast<float>(-1 - 0.7 * unit),
                                 static_cast<float>(1.5 + 0.5 * unit)};
    if (type == DataType::kFloat16) values.push_back(static_cast<float>(10.125 * tiny_unit));
    std::vector<double> sums(values.size());
    for (uint64_t key = 0; key < kKeys; ++key) {
      const std::vector<float> back = RoundTrip(type, values, &key);
      for (size_t i = 0; i < values.size(); ++i) {
        sums[i] += back[i];
        EXPECT_LT(std::fabs(back[i] - values[i]), i == 3 ? tiny_unit : unit);
      }
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const double step = i == 3 ? tiny_unit : unit;
      // Five deviations of a mean of kKeys draws of one unit's Bernoulli.
      EXPECT_NEAR(sums[i] / kKeys, values[i], 5 * step * 0.5 / std::sqrt(kKeys)) << i;
    }
  }
}

// A number just above one that fits goes up as seldom as it must, although it has no bits left for a fraction beside its own.
TEST(StoredNumbersTest, AHalfThatIsAlmostWholeIsSeldomRoundedUp) {
  const float value = 2047.0f + std::ldexp(1.0f, -13);
  const std::vector<float> values(1 << 22, value);
  std::vector<uint16_t> stored(values.size());
  StoreStochastically(DataType::kFloat16, 11, values.data(), values.size(), reinterpret_cast<std::byte*>(stored.data()));
  const uint16_t up = c10::Half(2048.0f).x;
  const double expected = static_cast<double>(values.size()) * std::ldexp(1.0, -13);
  EXPECT_NEAR(static_cast<double>(std::count(stored.begin(), stored.end(), up)), expected, 5 * std::sqrt(expected));
}

// Blocks without very large numbers are rounded by a shorter loop.
TEST(StoredNumbersTest, ANumbersRoundingDoesNotDependOnItsNeighbours) {
  const std::vector<float> values = AllMagnitudes(4096, 3.3e38f);
  for (uint64_t key = 0; key < 20; ++key) {
    std::vector<float> with_infinities = values;
    for (size_t i = 0; i < values.size(); i += 100) with_infinities[i] = std::numeric_limits<float>::infinity();
    const std::vector<float> back = RoundTrip(DataType::kBFloat16, values, &key);
    const std::vector<float> beside = RoundTrip(DataType::kBFloat16, with_infinities, &key);
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % 100 == 0) continue;
      ASSERT_EQ(back[i], beside[i]) << "number " << i << ", " << values[i];
    }
  }
  // The largest of the shorter loop, and the smallest that is not: with whatever bits, neither becomes infinite.
  constexpr float kLargest = 3.38953139e38f, kNext = 3.38953159e38f;
  for (uint64_t key = 0; key < 200; ++key) {
    for (const float value : RoundTrip(DataType::kBFloat16, std::vector<float>(256, kLargest), &key)) ASSERT_EQ(value, kLargest);
    for (const float value : RoundTrip(DataType::kBFloat16, std::vector<float>(256, kNext), &key)) ASSERT_EQ(value, kLargest);
  }
}

TEST(StoredNumbersTest, RandomBitsFollowFromKeyAndPlaceAlone) {
  const std::vector<float> values(1000, 1.0f + 0x1p-9f);
  const uint64_t key = 3, other = 4;
  const std::vector<float> shorter(values.begin(), values.begin() + 300);
  const std::vector<float> whole = RoundTrip(DataType::kBFloat16, values, &key);
  EXPECT_EQ(std::vector<float>(whole.begin(), whole.begin() + 300), RoundTrip(DataType::kBFloat16, shorter, &key));
  EXPECT_NE(whole, RoundTrip(DataType::kBFloat16, values, &other));
}

}  // namespace
}  // namespace myriad
