// The oracle itself, against nothing but its own loss: its gradients are the slopes of that loss.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/training_oracle.h"

namespace myriad {
namespace {

constexpr int kDim = 5;

struct Data {
  std::vector<int64_t> class_ids = {3, 9, 4, 100};
  std::vector<std::vector<float>> rows;
  std::vector<float> embeddings;
  std::vector<int64_t> labels = {9, 3, 4};
};

Data RandomData(uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Data data;
  for (size_t j = 0; j < data.class_ids.size(); ++j) {
    data.rows.emplace_back();
    for (int d = 0; d < kDim; ++d) data.rows.back().push_back(normal(rng));
  }
  for (size_t i = 0; i < data.labels.size() * kDim; ++i) data.embeddings.push_back(normal(rng));
  return data;
}

TrainingOracle::Result Evaluate(const MarginOptions& margin, const Data& data, std::vector<double>* row_gradients) {
  TrainingOracle oracle(kDim, margin, OptimizerOptions(), nullptr);
  for (size_t j = 0; j < data.class_ids.size(); ++j) oracle.SetRow(data.class_ids[j], data.rows[j], {});
  return oracle.Evaluate(data.class_ids, data.embeddings, data.labels, row_gradients);
}

// d loss / d value by central differences over the floats that were really used.
template <typename Change>
double Slope(const MarginOptions& margin, Data data, const Change& value_of) {
  float& value = value_of(data);
  const float middle = value, h = 1e-3f * std::max(1.0f, std::abs(middle));
  value = middle + h;
  const double up_at = value, up = Evaluate(margin, data, nullptr).loss;
  value = middle - h;
  const double down_at = value, down = Evaluate(margin, data, nullptr).loss;
  return (up - down) / (up_at - down_at);
}

TEST(TrainingOracleTest, GradientsAreTheSlopesOfTheLoss) {
  for (const MarginOptions& margin :
       {MarginOptions{MarginOptions::Kind::kCosFace, 0.35, 4.0}, MarginOptions{MarginOptions::Kind::kArcFace, 0.5, 4.0},
        MarginOptions{MarginOptions::Kind::kArcFace, 1.4, 4.0}}) {
    for (uint32_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(absl::StrCat("kind ", static_cast<int>(margin.kind), ", m ", margin.margin, ", seed ", seed));
      const Data data = RandomData(seed);
      std::vector<double> row_gradients;
      const TrainingOracle::Result result = Evaluate(margin, data, &row_gradients);
      ASSERT_EQ(result.target_count, 3);
      for (size_t e = 0; e < data.embeddings.size(); ++e) {
        const double slope = Slope(margin, data, [e](Data& d) -> float& { return d.embeddings[e]; });
        ASSERT_NEAR(result.embedding_gradients[e], slope, 2e-4) << "embedding element " << e;
      }
      for (size_t j = 0; j < data.class_ids.size(); ++j) {
        for (int d = 0; d < kDim; ++d) {
          const double slope = Slope(margin, data, [&](Data& x) -> float& { return x.rows[j][d]; });
          ASSERT_NEAR(row_gradients[j * kDim + d], slope, 2e-4) << "row " << j << ", element " << d;
        }
      }
    }
  }
}

TEST(TrainingOracleTest, SamplesWithoutATargetStayOutOfTheLossButPushTheirNegatives) {
  const MarginOptions margin{MarginOptions::Kind::kCosFace, 0.35, 4.0};
  Data data = RandomData(1);
  const TrainingOracle::Result with = Evaluate(margin, data, nullptr);
  data.labels[1] = 77;
  std::vector<double> row_gradients;
  const TrainingOracle::Result without = Evaluate(margin, data, &row_gradients);
  EXPECT_EQ(without.target_count, 2);
  EXPECT_NE(without.loss, with.loss);
  double push = 0.0;
  for (int d = 0; d < kDim; ++d) push += std::abs(without.embedding_gradients[kDim + d]);
  EXPECT_GT(push, 0.0);
}

TEST(TrainingOracleTest, RowsAppearFromTheirInitialValuesAndMove) {
  TrainingOracle oracle(2, MarginOptions(), OptimizerOptions(), [](int64_t class_id, float* w) {
    w[0] = static_cast<float>(class_id);
    w[1] = 1.0f;
  });
  EXPECT_EQ(oracle.RowOf(7).weights, (std::vector<double>{7.0, 1.0}));
  oracle.Step({1, 2}, {1.0f, 0.0f}, {2}, 0.1);
  EXPECT_EQ(oracle.row_count(), 3u);
  EXPECT_NE(oracle.RowOf(1).weights, (std::vector<double>{1.0, 1.0}));
  EXPECT_EQ(oracle.RowOf(7).weights, (std::vector<double>{7.0, 1.0}));
}

}  // namespace
}  // namespace myriad
