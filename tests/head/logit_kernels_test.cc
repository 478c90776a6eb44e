#include "head/logit_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// exp(x) by the kernel: one class, scale 1, maximum 0.
std::vector<float> Exponentials(std::vector<float> x) {
  const std::vector<float> maximum(x.size(), 0.0f);
  std::vector<double> sums(x.size(), 0.0);
  Exponentiate(x.data(), 1, static_cast<int64_t>(x.size()), 1.0f, maximum.data(), sums.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(sums[i], x[i]);
  return x;
}

TEST(ExponentiateTest, RelativeErrorIsAtMostTwoInTenMillion) {
  std::vector<float> x;
  for (float value = -87.0f; value <= 1.0f; value += 0.00037f) x.push_back(value);
  for (int n = -125; n <= 1; ++n) {  // Around the seams of the argument reduction.
    const float seam = static_cast<float>((n + 0.5) * std::log(2.0));
    for (float value = seam, i = 0; i < 8; ++i, value = std::nextafter(value, 100.0f)) x.push_back(value);
    for (float value = seam, i = 0; i < 8; ++i, value = std::nextafter(value, -100.0f)) x.push_back(value);
  }
  const std::vector<float> actual = Exponentials(x);
  double worst = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] < -87.2f) continue;
    worst = std::max(worst, std::abs(actual[i] / std::exp(static_cast<double>(x[i])) - 1.0));
  }
  EXPECT_LE(worst, 2e-7);
}

TEST(ExponentiateTest, VeryNegativeNumbersAndMinusInfinityGiveZero) {
  const std::vector<float> actual = Exponentials({-87.4f, -100.0f, -2048.0f, -1e30f, kNegativeInfinity, 0.0f});
  EXPECT_EQ(actual, (std::vector<float>{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f}));
}

// Sizes around strips, vectors and float blocks; some entries masked, one sample masked everywhere.
TEST(LogitKernelsTest, MaximaAndSumsMatchPlainLoops) {
  std::mt19937 rng(1);
  for (int64_t rows : {1, 2, 31, 32, 33, 200}) {
    for (int64_t batch : {1, 5, 16, 255, 256, 257, 700}) {
      SCOPED_TRACE(absl::StrCat(rows, " x ", batch));
      std::uniform_real_distribution<float> cosine(-1.0f, 1.0f);
      std::vector<float> tile(rows * batch);
      for (float& c : tile) c = rng() % 20 == 0 ? kNegativeInfinity : cosine(rng);
      for (int64_t j = 0; j < rows; ++j) tile[j * batch] = kNegativeInfinity;
      const float scale = 64.0f;
      std::vector<float> maximum(batch, kNegativeInfinity);
      if (batch > 2) maximum[2] = 70.0f;  // From an earlier tile, higher than any here.
      const std::vector<float> before = maximum;
      RaiseMaxLogits(tile.data(), rows, batch, scale, maximum.data());
      std::vector<double> sums(batch, 0.25);
      std::vector<float> exponentials = tile;
      Exponentiate(exponentials.data(), rows, batch, scale, maximum.data(), sums.data());
      for (int64_t i = 0; i < batch; ++i) {
        float highest = before[i];
        double sum = 0.25;
        for (int64_t j = 0; j < rows; ++j) highest = std::max(highest, scale * tile[j * batch + i]);
        ASSERT_EQ(maximum[i], highest);
        for (int64_t j = 0; j < rows; ++j) {
          const double expected = highest == kNegativeInfinity ? 0.0 : std::exp(static_cast<double>(scale) * tile[j * batch + i] - highest);
          // scale * c - max is rounded once or twice, to 2^-24 of up to 128.
          ASSERT_NEAR(exponentials[j * batch + i], expected, 2e-5 * expected + 1e-37);
          sum += exponentials[j * batch + i];
        }
        ASSERT_NEAR(sums[i], sum, 1e-6 * sum);
      }
    }
  }
}

// A hundred thousand equal terms: a float sum would have stopped growing digits long before.
TEST(LogitKernelsTest, LongSumsKeepTheirDigits) {
  constexpr int64_t kRows = 100'000;
  std::vector<float> tile(kRows * 3, -0.3f);
  const std::vector<float> maximum(3, 0.0f);
  std::vector<double> sums(3, 0.0);
  Exponentiate(tile.data(), kRows, 3, 1.0f, maximum.data(), sums.data());
  for (double sum : sums) EXPECT_NEAR(sum / (kRows * std::exp(-0.3)), 1.0, 5e-7);
}

}  // namespace
}  // namespace myriad
