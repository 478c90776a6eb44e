#include "head/softmax_share.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/float_row_view.h"
#include "head/row_optimizer.h"
#include "tests/testing/float_row_editor.h"
#include "tests/testing/training_oracle.h"

namespace myriad {
namespace {

SoftmaxShare::Options Options(int dim, bool plain = false, int64_t tile_bytes = int64_t{32} << 20) {
  SoftmaxShare::Options options;
  options.margin = {MarginOptions::Kind::kArcFace, 0.5, 64.0};
  options.embedding_dim = dim;
  options.tile_bytes = tile_bytes;
  options.plain_passes = plain;
  return options;
}

std::vector<float*> Pointers(const at::Tensor& rows) {
  std::vector<float*> pointers;
  for (int64_t j = 0; j < rows.size(0); ++j) pointers.push_back(rows.mutable_data_ptr<float>() + j * rows.size(1));
  return pointers;
}

void SetRows(const at::Tensor& rows, SoftmaxShare* share) {
  const std::vector<float*> pointers = Pointers(rows);
  share->SetRows(FloatRowView(static_cast<int>(rows.size(1)), pointers));
}

void Apply(const at::Tensor& weights, const at::Tensor& momentum, SoftmaxShare* share) {
  const std::vector<float*> weight_pointers = Pointers(weights), momentum_pointers = Pointers(momentum);
  FloatRowEditor rows(static_cast<int>(weights.size(1)), weight_pointers, momentum_pointers);
  share->Apply(OptimizerOptions(), 0.1, rows);
}

std::vector<int32_t> Targets(int64_t batch, int64_t rows) {
  std::vector<int32_t> targets;
  for (int64_t i = 0; i < batch; ++i) targets.push_back(static_cast<int32_t>((i * 7919) % (rows + 1)) - 1);
  return targets;
}

// Whole steps with one share, on fixed data: what must not depend on how they are run.
struct Trained {
  at::Tensor weights, momentum, embedding_gradients;
  double loss = 0.0;
};

Trained Train(const SoftmaxShare::Options& options, int64_t rows, int64_t batch, int steps, bool lent = false) {
  at::manual_seed(11);
  Trained trained;
  trained.weights = at::randn({rows, options.embedding_dim}) * 0.01;
  trained.momentum = at::zeros({rows, options.embedding_dim});
  const std::vector<float*> weights = Pointers(trained.weights), momentum = Pointers(trained.momentum);
  FloatRowEditor step_rows(options.embedding_dim, weights, momentum, lent);
  SoftmaxShare share(options);
  for (int step = 0; step < steps; ++step) {
    const at::Tensor x = at::randn({batch, options.embedding_dim});
    share.SetRows(step_rows);
    const absl::StatusOr<Denominators> denominators = share.Forward(x, Targets(batch, rows));
    EXPECT_TRUE(denominators.ok()) << denominators.status();
    const absl::StatusOr<MergedDenominators> merged = MergeShares({*denominators}, batch);
    EXPECT_TRUE(merged.ok()) << merged.status();
    trained.loss = merged->loss_sum;
    trained.embedding_gradients = share.EmbeddingGradients(*merged, batch);
    share.AccumulateRowGradients(*merged, batch);
    share.Apply(OptimizerOptions(), 0.1, step_rows);
  }
  return trained;
}

void ExpectSameBits(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_TRUE(a.weights.equal(b.weights));
  EXPECT_TRUE(a.momentum.equal(b.momentum));
  EXPECT_TRUE(a.embedding_gradients.equal(b.embedding_gradients));
}

TEST(SoftmaxShareTest, StepsRepeatBitForBit) {
  for (int64_t tile_bytes : {int64_t{32} << 20, int64_t{1} << 16}) {
    const Trained first = Train(Options(64, false, tile_bytes), 3001, 33, 3);
    for (int run = 0; run < 5; ++run) ExpectSameBits(first, Train(Options(64, false, tile_bytes), 3001, 33, 3));
  }
}

// It does not matter where rows are kept, nor by which thread's memory they go.
TEST(SoftmaxShareTest, LentRowsGiveTheSameBits) {
  for (int64_t tile_bytes : {int64_t{32} << 20, int64_t{1} << 16}) {
    ExpectSameBits(Train(Options(64, false, tile_bytes), 3001, 33, 3), Train(Options(64, false, tile_bytes), 3001, 33, 3, /*lent=*/true));
  }
}

// Buffers keep what earlier, larger steps left in them; nothing of it may show.
TEST(SoftmaxShareTest, EarlierStepsLeaveNoTrace) {
  at::manual_seed(5);
  const at::Tensor large = at::randn({2000, 64}), small = at::randn({37, 64}), x = at::randn({9, 64});
  SoftmaxShare used(Options(64)), fresh(Options(64));
  SetRows(large, &used);
  ASSERT_TRUE(used.Forward(at::randn({200, 64}) * 100, Targets(200, 2000)).ok());
  at::Tensor gradients[2], row_gradients[2];
  for (int k : {0, 1}) {
    SoftmaxShare& share = k == 0 ? used : fresh;
    SetRows(small, &share);
    const absl::StatusOr<Denominators> denominators = share.Forward(x, Targets(9, 37));
    ASSERT_TRUE(denominators.ok());
    const MergedDenominators merged = *MergeShares({*denominators}, 9);
    gradients[k] = share.EmbeddingGradients(merged, 9);
    share.AccumulateRowGradients(merged, 9);
    row_gradients[k] = share.RowGradients();
  }
  EXPECT_TRUE(gradients[0].equal(gradients[1]));
  EXPECT_TRUE(row_gradients[0].equal(row_gradients[1]));
}

double WorstDifference(const at::Tensor& a, const at::Tensor& b) { return ((a - b).abs().max() / b.abs().max()).item<double>(); }

TEST(SoftmaxShareTest, ThreadsTilesAndPassesChangeOnlyTheRounding) {
  const int threads = at::get_num_threads();
  const Trained base = Train(Options(64), 3001, 33, 1);
  const auto expect_near = [&](const Trained& other) {
    EXPECT_NEAR(other.loss, base.loss, 1e-6 * base.loss);
    EXPECT_LE(WorstDifference(other.weights, base.weights), 1e-5);
    EXPECT_LE(WorstDifference(other.embedding_gradients, base.embedding_gradients), 1e-5);
  };
  expect_near(Train(Options(64, false, 20'000), 3001, 33, 1));
  expect_near(Train(Options(64, true), 3001, 33, 1));
  for (int other : {1, 2, 3}) {
    at::set_num_threads(other);
    expect_near(Train(Options(64), 3001, 33, 1));
  }
  at::set_num_threads(threads);
}

TEST(SoftmaxShareTest, RowGradientsAreTheOraclesAndWhatSgdApplies) {
  const int dim = 24;
  const int64_t rows = 211, batch = 19;
  at::manual_seed(2);
  at::Tensor weights = at::randn({rows, dim}) * 0.1, momentum = at::zeros({rows, dim});
  const at::Tensor x = at::randn({batch, dim});
  const std::vector<int32_t> targets = Targets(batch, rows);
  std::vector<int64_t> class_ids(rows), labels;
  std::iota(class_ids.begin(), class_ids.end(), 0);
  for (int32_t target : targets) labels.push_back(target < 0 ? 1'000'000 : target);
  TrainingOracle oracle(dim, Options(dim).margin, OptimizerOptions(), nullptr);
  for (int64_t j = 0; j < rows; ++j) oracle.SetRow(j, absl::MakeConstSpan(weights.const_data_ptr<float>() + j * dim, dim), {});
  std::vector<double> expected;
  oracle.Evaluate(class_ids, absl::MakeConstSpan(x.const_data_ptr<float>(), batch * dim), labels, &expected);

  for (bool from_tensor : {false, true}) {
    SoftmaxShare share(Options(dim));
    if (from_tensor) {
      share.SetRows(weights);
    } else {
      SetRows(weights, &share);
    }
    const absl::StatusOr<Denominators> denominators = share.Forward(x, targets);
    ASSERT_TRUE(denominators.ok());
    const MergedDenominators merged = *MergeShares({*denominators}, batch);
    share.AccumulateRowGradients(merged, batch);
    const at::Tensor gradients = share.RowGradients();
    EXPECT_TRUE(gradients.equal(share.RowGradients())) << "reading moved them";
    const at::Tensor reference = at::from_blob(expected.data(), {rows, dim}, at::kDouble);
    EXPECT_LE((gradients.to(at::kDouble) - reference).abs().max().item<double>(), 1e-5 * reference.abs().max().item<double>());
    if (!from_tensor) continue;
    at::Tensor moved = weights.clone(), moved_momentum = momentum.clone();
    Apply(moved, moved_momentum, &share);
    for (int64_t j = 0; j < rows; ++j) {
      UpdateRow(MakeSgdStep(OptimizerOptions(), 0.1), gradients.const_data_ptr<float>() + j * dim, dim,
                weights.mutable_data_ptr<float>() + j * dim, momentum.mutable_data_ptr<float>() + j * dim);
    }
    EXPECT_TRUE(at::allclose(moved, weights, 1e-5, 1e-6));
    EXPECT_TRUE(at::allclose(moved_momentum, momentum, 1e-4, 1e-5));
  }
}

TEST(SoftmaxShareTest, ForwardAloneMovesNothingAndMayRepeat) {
  at::manual_seed(4);
  const at::Tensor weights = at::randn({100, 16}), x = at::randn({8, 16});
  const at::Tensor copy = weights.clone();
  SoftmaxShare share(Options(16));
  SetRows(weights, &share);
  const absl::StatusOr<Denominators> first = share.Forward(x, Targets(8, 100)), second = share.Forward(x, Targets(8, 100));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->sum_exp, second->sum_exp);
  EXPECT_EQ(first->max_logit, second->max_logit);
  share.EmbeddingGradients(*MergeShares({*second}, 8), 8);
  EXPECT_TRUE(weights.equal(copy));
}

TEST(SoftmaxShareTest, NumbersNotFiniteAreRefusedByName) {
  for (bool plain : {false, true}) {
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      at::Tensor weights = at::randn({50, 16}), x = at::randn({8, 16});
      SoftmaxShare share(Options(16, plain));
      share.SetRows(weights);
      x[5][15] = bad;
      x[6][0] = bad;
      absl::Status status = share.Forward(x, Targets(8, 50)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_NE(status.message().find("sample 5 "), absl::string_view::npos) << status;
      x = at::randn({8, 16});
      EXPECT_TRUE(share.Forward(x, Targets(8, 50)).ok()) << "one bad batch must not spoil the rows";

      weights[33][2] = bad;
      share.SetRows(weights);
      status = share.Forward(x, Targets(8, 50)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_NE(status.message().find("row 33 "), absl::string_view::npos) << status;
      weights[33][2] = 0.0f;
      share.SetRows(weights);
      EXPECT_TRUE(share.Forward(x, Targets(8, 50)).ok());
    }
  }
}

TEST(SoftmaxShareTest, CallsThatDoNotFitAreRefused) {
  SoftmaxShare share(Options(16));
  const at::Tensor x = at::randn({2, 16});
  EXPECT_EQ(share.Forward(x, std::vector<int32_t>{-1, -1}).status().code(), absl::StatusCode::kFailedPrecondition);
  at::Tensor weights = at::randn({3, 16}), momentum = at::zeros({3, 16});
  share.SetRows(weights);
  for (const at::Tensor& bad : {at::randn({2, 15}), at::randn({2, 16}, at::kDouble), at::randn({32})}) {
    EXPECT_EQ(share.Forward(bad, std::vector<int32_t>{-1, -1}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(share.Forward(x, std::vector<int32_t>{-1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(share.Forward(x, std::vector<int32_t>{-1, 3}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(share.Forward(x, std::vector<int32_t>{-2, 0}).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(share.Forward(x, std::vector<int32_t>{-1, 0}).ok());
  Apply(weights, momentum, &share);
  EXPECT_EQ(share.Forward(x, std::vector<int32_t>{-1, 0}).status().code(), absl::StatusCode::kFailedPrecondition)
      << "the rows moved since SetRows";
}

TEST(SoftmaxShareTest, DegenerateRowsAndEmbeddingsHaveNoCosineAndNoGradient) {
  for (bool plain : {false, true}) {
    at::manual_seed(6);
    at::Tensor weights = at::randn({20, 16}), x = at::randn({6, 16});
    weights[4].zero_();
    weights[9].fill_(1e-14);
    x[2].zero_();
    SoftmaxShare share(Options(16, plain));
    share.SetRows(weights);
    const std::vector<int32_t> targets = {4, 1, 2, 9, 4, -1};
    const absl::StatusOr<Denominators> denominators = share.Forward(x, targets);
    ASSERT_TRUE(denominators.ok()) << denominators.status();
    EXPECT_EQ(share.degenerate_row_count(), 2);
    EXPECT_EQ(share.degenerate_embedding_count(), 1);
    EXPECT_EQ(denominators->target_index, (std::vector<int32_t>{0, 1, 2, 3, 4}));
    for (int k : {0, 2, 3, 4}) EXPECT_EQ(denominators->target_cosine[k], 0.0f);
    const MergedDenominators merged = *MergeShares({*denominators}, 6);
    EXPECT_NEAR(merged.log_z[2], std::log(19 + std::exp(denominators->target_logit[2])), 1e-6);
    share.AccumulateRowGradients(merged, 6);
    const at::Tensor embedding_gradients = share.EmbeddingGradients(merged, 6), row_gradients = share.RowGradients();
    EXPECT_EQ(embedding_gradients[2].abs().max().item<float>(), 0.0f);
    EXPECT_EQ(row_gradients[4].abs().max().item<float>(), 0.0f);
    EXPECT_EQ(row_gradients[9].abs().max().item<float>(), 0.0f);
    EXPECT_GT(row_gradients[1].abs().max().item<float>(), 0.0f);
    EXPECT_GT(embedding_gradients[0].abs().max().item<float>(), 0.0f);
  }
}

// A shard may own no row of a step, and a step may have no row at all.
TEST(SoftmaxShareTest, NoRowsGiveAnEmptyShare) {
  for (bool plain : {false, true}) {
    SoftmaxShare share(Options(16, plain));
    share.SetRows(at::empty({0, 16}));
    const at::Tensor x = at::randn({3, 16});
    const absl::StatusOr<Denominators> denominators = share.Forward(x, std::vector<int32_t>(3, -1));
    ASSERT_TRUE(denominators.ok()) << denominators.status();
    EXPECT_EQ(denominators->max_logit[1], -std::numeric_limits<float>::infinity());
    EXPECT_EQ(denominators->sum_exp[1], 0.0);
    const MergedDenominators merged = *MergeShares({*denominators}, 3);
    EXPECT_EQ(share.EmbeddingGradients(merged, 3).abs().max().item<float>(), 0.0f);
    share.AccumulateRowGradients(merged, 3);
    EXPECT_EQ(share.RowGradients().numel(), 0);
    Apply(at::empty({0, 16}), at::empty({0, 16}), &share);
  }
}

// The one row is every sample's own: no negative is left, so the loss is 0 and so are the gradients.
TEST(SoftmaxShareTest, OnlyTheTargetGivesLossZero) {
  SoftmaxShare share(Options(16));
  share.SetRows(at::randn({1, 16}));
  const absl::StatusOr<Denominators> denominators = share.Forward(at::randn({2, 16}), std::vector<int32_t>{0, 0});
  ASSERT_TRUE(denominators.ok());
  const MergedDenominators merged = *MergeShares({*denominators}, 2);
  EXPECT_EQ(merged.loss_sum, 0.0);
  EXPECT_EQ(share.EmbeddingGradients(merged, 2).abs().max().item<float>(), 0.0f);
}

// With other shards' far larger logits, a share vanishes; it must not turn into NaN or infinity.
TEST(SoftmaxShareTest, SharesThatVanishAgainstOthersGiveZeros) {
  SoftmaxShare::Options options = Options(16);
  options.margin.scale = 1024.0;
  SoftmaxShare share(options);
  at::manual_seed(8);
  share.SetRows(at::randn({300, 16}));
  absl::StatusOr<Denominators> denominators = share.Forward(at::randn({4, 16}), std::vector<int32_t>(4, -1));
  ASSERT_TRUE(denominators.ok());
  MergedDenominators merged = *MergeShares({*denominators}, 4);
  for (double& log_z : merged.log_z) log_z = 3000.0;
  EXPECT_EQ(share.EmbeddingGradients(merged, 4).abs().max().item<float>(), 0.0f);
  share.AccumulateRowGradients(merged, 4);
  EXPECT_EQ(share.RowGradients().abs().max().item<float>(), 0.0f);
}

// A worker's embeddings come from autograd, a server may compute in inference mode.
TEST(SoftmaxShareTest, AutogradAndInferenceModeOutsideDoNotMatter) {
  const Trained plain = Train(Options(64), 3001, 33, 2);
  {
    const c10::InferenceMode inference;
    ExpectSameBits(plain, Train(Options(64), 3001, 33, 2));
  }
  SoftmaxShare share(Options(16));
  share.SetRows(at::randn({30, 16}));
  const at::Tensor x = at::randn({4, 16}).requires_grad_();
  const absl::StatusOr<Denominators> denominators = share.Forward(x, Targets(4, 30));
  ASSERT_TRUE(denominators.ok()) << denominators.status();
  EXPECT_FALSE(share.EmbeddingGradients(*MergeShares({*denominators}, 4), 4).requires_grad());
}

}  // namespace
}  // namespace myriad
