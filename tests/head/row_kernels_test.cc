#include "head/row_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/row_optimizer.h"

namespace myriad {
namespace {

std::vector<float> Random(std::mt19937& rng, int dim, float deviation) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(dim);
  for (float& value : values) value = normal(rng);
  return values;
}

const std::vector<int> kDims = {1, 2, 7, 15, 16, 17, 63, 128, 511, 512, 513};

TEST(NormalizeRowTest, DividesByTheNormOverAllMagnitudes) {
  std::mt19937 rng(1);
  for (int dim : kDims) {
    for (float deviation : {1e-11f, 1e-6f, 0.01f, 1.0f, 1e6f, 1e18f, 1e30f, 1e37f}) {
      SCOPED_TRACE(absl::StrCat("dim ", dim, ", deviation ", deviation));
      const std::vector<float> row = Random(rng, dim, deviation);
      double norm = 0.0;
      for (float x : row) norm += static_cast<double>(x) * x;
      norm = std::sqrt(norm);
      if (norm < 2e-12) continue;
      std::vector<float> unit(dim);
      const NormalizedRow result = NormalizeRow(row.data(), dim, unit.data());
      EXPECT_TRUE(result.finite);
      EXPECT_NEAR(result.inverse_norm * norm, 1.0, norm < 1e36 ? 1e-6 : 1e-2);  // Denormal floats have fewer digits.
      for (int d = 0; d < dim; ++d) ASSERT_NEAR(unit[d], row[d] / norm, 2e-7 * std::abs(row[d] / norm));
    }
  }
}

TEST(NormalizeRowTest, TinyRowsAreDegenerateAndZero) {
  std::vector<float> row(16, 0.0f), unit(16, 5.0f);
  for (float value : {0.0f, 1e-13f, 1e-38f}) {
    row[3] = value;
    const NormalizedRow result = NormalizeRow(row.data(), 16, unit.data());
    EXPECT_TRUE(result.finite);
    EXPECT_EQ(result.inverse_norm, 0.0f);
    EXPECT_EQ(unit, std::vector<float>(16, 0.0f));
  }
  row[3] = 1.1e-12f;
  EXPECT_GT(NormalizeRow(row.data(), 16, unit.data()).inverse_norm, 0.0f);
}

TEST(NormalizeRowTest, AnyNumberNotFiniteIsFoundWhereverItStands) {
  for (int dim : kDims) {
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
      for (int at = 0; at < dim; at += 1 + dim / 9) {
        std::vector<float> row(dim, 1.0f), unit(dim, 5.0f);
        row[at] = bad;
        const NormalizedRow result = NormalizeRow(row.data(), dim, unit.data());
        ASSERT_FALSE(result.finite);
        ASSERT_EQ(result.inverse_norm, 0.0f);
        ASSERT_EQ(unit, std::vector<float>(dim, 0.0f));
      }
    }
  }
  std::vector<float> largest(512, std::numeric_limits<float>::max()), unit(512);
  EXPECT_TRUE(NormalizeRow(largest.data(), 512, unit.data()).finite);
}

TEST(ProjectRowTest, LeavesWhatIsAcrossTheRow) {
  std::mt19937 rng(2);
  for (int dim : kDims) {
    const std::vector<float> row = Random(rng, dim, 0.01f), gradient = Random(rng, dim, 1.0f);
    std::vector<float> unit(dim), projected = gradient;
    const NormalizedRow normalized = NormalizeRow(row.data(), dim, unit.data());
    ProjectRow(unit.data(), normalized.inverse_norm, dim, projected.data());
    double along = 0.0;
    for (int d = 0; d < dim; ++d) along += static_cast<double>(gradient[d]) * unit[d];
    for (int d = 0; d < dim; ++d) {
      ASSERT_NEAR(projected[d], (gradient[d] - along * unit[d]) * normalized.inverse_norm, 2e-5 * normalized.inverse_norm);
    }
    EXPECT_NEAR(Dot(projected.data(), unit.data(), dim) / normalized.inverse_norm, 0.0, 2e-5);
  }
}

// Ten updates against the formula of OptimizerOptions in float64.
TEST(SgdTest, MovesAsTheFormulaSays) {
  std::mt19937 rng(3);
  for (bool decoupled : {false, true}) {
    for (int dim : kDims) {
      SCOPED_TRACE(absl::StrCat("dim ", dim, decoupled ? ", decoupled" : ""));
      OptimizerOptions sgd;
      sgd.weight_decay = 0.05;
      sgd.decoupled_weight_decay = decoupled;
      sgd.rate_scale = 2.0;
      std::vector<float> weights = Random(rng, dim, 1.0f), momentum(dim, 0.0f);
      std::vector<double> w(weights.begin(), weights.end()), v(dim, 0.0);
      for (int step = 0; step < 10; ++step) {
        const std::vector<float> gradient = Random(rng, dim, 1.0f);
        const double learning_rate = 0.01 * (step + 1), rate = 2.0 * learning_rate;
        UpdateRow(MakeSgdStep(sgd, learning_rate), gradient.data(), dim, weights.data(), momentum.data());
        for (int d = 0; d < dim; ++d) {
          v[d] = 0.9 * v[d] + gradient[d] + (decoupled ? 0.0 : 0.05 * w[d]);
          w[d] -= rate * (v[d] + (decoupled ? 0.05 * w[d] : 0.0));
        }
      }
      for (int d = 0; d < dim; ++d) {
        ASSERT_NEAR(weights[d], w[d], 1e-5);
        ASSERT_NEAR(momentum[d], v[d], 1e-5);
      }
    }
  }
}

}  // namespace
}  // namespace myriad
