#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/head_spec.h"
#include "head/softmax_share.h"
#include "tests/head/share_harness.h"
#include "tests/testing/training_oracle.h"

namespace myriad {
namespace {

// Rows move by a good part of their length in ten steps; much more, and training itself magnifies rounding from step to step.
constexpr double kLearningRate = 0.04;

struct Case {
  std::string name;
  MarginOptions margin;
  int dim;
  int class_count;
  double sampled;  // Of all classes; 1 takes all of them.
  int batch;
  int share_count;
  std::vector<int64_t> chunk_ends;  // Empty: one chunk.
  int64_t tile_bytes = int64_t{32} << 20;
  bool positives_on_top = true;  // False: positives that were not drawn are absent (ALL_SAMPLE).
  bool plain_passes = false;
  bool decoupled_weight_decay = false;
};

const MarginOptions kCosFace{MarginOptions::Kind::kCosFace, 0.35, 32.0};
const MarginOptions kCosFace64{MarginOptions::Kind::kCosFace, 0.4, 64.0};
const MarginOptions kArcFace{MarginOptions::Kind::kArcFace, 0.5, 64.0};
const MarginOptions kArcFaceWide{MarginOptions::Kind::kArcFace, 1.5, 30.1};
const MarginOptions kStraightThrough{MarginOptions::Kind::kArcFaceStraightThrough, 0.5, 64.0};

std::vector<Case> Cases() {
  std::vector<Case> cases = {
      {"CosFace", kCosFace, 512, 211, 1.0, 32, 1, {}},
      {"ArcFace", kArcFace, 512, 211, 1.0, 32, 1, {}},
      {"StraightThrough", kStraightThrough, 512, 211, 1.0, 32, 1, {}},
      {"CosFaceSampled", kCosFace64, 512, 503, 0.3, 32, 1, {}},
      {"ArcFaceSampled", kArcFace, 512, 503, 0.3, 32, 1, {}},
      {"SmallDimension", kCosFace, 7, 397, 1.0, 29, 1, {}},
      {"SmallDimensionArcFace", kArcFaceWide, 7, 397, 0.4, 29, 1, {}},
      {"TwoShares", kCosFace, 512, 211, 0.5, 32, 2, {}},
      {"ThreeShares", kArcFace, 512, 211, 0.5, 32, 3, {}},
      {"SevenShares", kCosFace, 7, 401, 0.5, 31, 7, {}},
      {"SevenSharesWide", kArcFace, 512, 211, 1.0, 31, 7, {}},
      {"MoreSharesThanRows", kCosFace, 7, 5, 1.0, 3, 7, {}},
      {"OneClass", kCosFace, 7, 1, 1.0, 3, 1, {}},
      {"OneSample", kArcFace, 512, 101, 1.0, 1, 2, {}},
      {"Tiled", kCosFace, 512, 211, 1.0, 32, 1, {}, 4096},
      {"TiledArcFace", kArcFace, 512, 211, 0.5, 32, 3, {}, 1024},
      {"OneRowATile", kArcFace, 7, 101, 1.0, 16, 2, {}, 1},
      {"ThreeChunks", kCosFace, 512, 211, 0.5, 32, 2, {5, 20, 32}},
      {"ChunksWithEmptyOnes", kArcFace, 512, 211, 0.5, 32, 2, {0, 20, 20, 32}},
      {"TiledChunks", kArcFace, 512, 211, 0.5, 32, 2, {11, 32}, 4096},
      {"EmptyBatch", kCosFace, 512, 211, 0.5, 0, 2, {}},
      {"TargetsAbsent", kCosFace, 512, 211, 0.3, 32, 3, {}, int64_t{32} << 20, false},
      {"TargetsAbsentTiled", kArcFace, 512, 211, 0.3, 32, 3, {}, 2048, false},
      {"Decoupled", kCosFace, 512, 211, 0.5, 32, 2, {}, int64_t{32} << 20, true, false, true},
      {"PlainPasses", kArcFace, 512, 211, 0.5, 32, 2, {11, 32}, int64_t{32} << 20, true, true},
      {"PlainPassesTiled", kCosFace, 7, 401, 0.5, 32, 2, {}, 2048, false, true},
  };
  return cases;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class SoftmaxShareOracleTest : public testing::TestWithParam<Case> {};

double Largest(const std::vector<double>& values) {
  double largest = 0.0;
  for (double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

TEST_P(SoftmaxShareOracleTest, TenStepsMatchFloat64) {
  const Case& c = GetParam();
  std::mt19937 rng(17);
  OptimizerOptions sgd;
  sgd.decoupled_weight_decay = c.decoupled_weight_decay;
  sgd.rate_scale = 0.5;
  SoftmaxShare::Options options;
  options.margin = c.margin;
  options.embedding_dim = c.dim;
  options.tile_bytes = c.tile_bytes;
  options.plain_passes = c.plain_passes;
  std::vector<int> share_of_class;
  for (int i = 0; i < c.class_count; ++i) share_of_class.push_back(static_cast<int>(rng() % c.share_count));
  ShareHarness shards(options, sgd, share_of_class, c.share_count, 5);
  TrainingOracle oracle(c.dim, c.margin, sgd, [&](int64_t class_id, float* weights) {
    std::copy(shards.weights(class_id).begin(), shards.weights(class_id).end(), weights);
  });

  for (int step = 0; step < 10; ++step) {
    SCOPED_TRACE(absl::StrCat("step ", step));
    // At D = 7 float32 drifts away within ten steps: there each step is compared from the same rows.
    for (int64_t id = 0; id < c.class_count && (c.dim < 32 || step == 0); ++id) {
      oracle.SetRow(id, shards.weights(id), shards.momentum(id));
    }
    std::vector<int64_t> labels;
    for (int i = 0; i < c.batch; ++i) labels.push_back(static_cast<int64_t>(rng() % c.class_count));
    std::vector<int64_t> all(c.class_count);
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), rng);
    std::vector<int64_t> class_ids(all.begin(), all.begin() + static_cast<int64_t>(std::ceil(c.sampled * c.class_count)));
    for (int64_t label : labels) {
      if (c.positives_on_top && std::find(class_ids.begin(), class_ids.end(), label) == class_ids.end()) class_ids.push_back(label);
    }
    // Embeddings near their centers as well as far from them: margins on both sides of the bend. A lone sample stays far, as
    // a loss near 0 has no six digits in float32 logits.
    std::vector<float> embeddings = RandomNormal(rng, int64_t{c.batch} * c.dim, 1.0);
    for (int i = 0; i < c.batch; ++i) {
      const float pull = static_cast<float>(static_cast<int>(rng() % (c.batch == 1 ? 3 : 5)) - 2) * 100.0f;
      for (int d = 0; d < c.dim; ++d) embeddings[i * c.dim + d] += pull * shards.weights(labels[i])[d];
    }
    const std::vector<int64_t> chunk_ends = c.chunk_ends.empty() ? std::vector<int64_t>{c.batch} : c.chunk_ends;

    const TrainingOracle::Result expected = oracle.Step(class_ids, embeddings, labels, kLearningRate);
    const ShareHarness::Outcome actual = shards.Step(class_ids, embeddings, labels, chunk_ends, kLearningRate);

    EXPECT_NEAR(actual.loss, expected.loss, 1e-6 * std::abs(expected.loss));
    EXPECT_EQ(actual.merged.target_count, expected.target_count);
    EXPECT_NEAR(actual.merged.target_cosine_sum, expected.target_cosine_sum, 1e-6 * c.batch);
    ASSERT_EQ(actual.embedding_gradients.size(), expected.embedding_gradients.size());
    const double largest = Largest(expected.embedding_gradients);
    double worst = 0.0;
    for (size_t i = 0; i < expected.embedding_gradients.size(); ++i) {
      worst = std::max(worst, std::abs(actual.embedding_gradients[i] - expected.embedding_gradients[i]));
    }
    EXPECT_LE(worst, 1e-5 * largest);
    double largest_weight = 0.0, worst_weight = 0.0, largest_momentum = 0.0, worst_momentum = 0.0;
    for (int64_t id = 0; id < c.class_count; ++id) {
      const TrainingOracle::Row& row = oracle.RowOf(id);
      largest_weight = std::max(largest_weight, Largest(row.weights));
      largest_momentum = std::max(largest_momentum, Largest(row.slots));
      for (int d = 0; d < c.dim; ++d) {
        worst_weight = std::max(worst_weight, std::abs(shards.weights(id)[d] - row.weights[d]));
        worst_momentum = std::max(worst_momentum, std::abs(shards.momentum(id)[d] - row.slots[d]));
      }
    }
    EXPECT_LE(worst_weight, 1e-5 * largest_weight);
    EXPECT_LE(worst_momentum, 3e-5 * largest_momentum);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, SoftmaxShareOracleTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

}  // namespace
}  // namespace myriad
