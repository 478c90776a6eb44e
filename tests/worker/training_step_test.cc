#include "worker/training_step.h"

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "tests/worker/fake_head.h"
#include "worker/peer_watch.h"

namespace myriad {
namespace {

constexpr int kSide = 4;
constexpr int kDim = 6;
constexpr int kClasses = 11;

// One product and no BatchNorm: what a batch gives does not depend on how it is cut.
class LinearBackbone : public Backbone {
 public:
  LinearBackbone() : weight_(at::empty({kSide * kSide, kDim}, at::kFloat)) {
    weight_.normal_(0.0, 0.3, at::make_generator<at::CPUGeneratorImpl>(uint64_t{5}));
    weight_.set_requires_grad(true);
  }
  absl::StatusOr<at::Tensor> Forward(const at::Tensor& images) override {
    if (on_forward) on_forward();
    smallest_training_batch = training_ ? std::min(smallest_training_batch, images.size(0)) : smallest_training_batch;
    return at::mm(images.flatten(1), weight_);
  }
  void SetTraining(bool training) override { training_ = training; }
  absl::Status MoveTo(const at::Device&) override { return absl::OkStatus(); }
  std::vector<NamedTensor> Parameters() const override { return {{"weight", weight_}}; }
  std::vector<NamedTensor> State() const override { return Parameters(); }

  int64_t smallest_training_batch = 1000;
  std::function<void()> on_forward;

 private:
  at::Tensor weight_;
  bool training_ = true;
};

// A run of one rank over fakes.
struct Rig {
  explicit Rig(int head_count = 1) {
    collectives = *Collectives::Connect({});
    for (int h = 0; h < head_count; ++h) heads.push_back(std::make_unique<FakeHead>(kClasses, kDim, 10 + h));
    parts.backbone = &backbone;
    parts.parameters = {backbone.Parameters()[0].tensor};
    reducer = *collectives->MakeGradientReducer(parts.parameters, 1 << 20, &trace);
    optimizer = std::make_unique<BackboneSgd>(*BackboneSgd::Create({0.9, 5e-4}, parts.parameters));
    parts.reducer = reducer.get();
    parts.optimizer = optimizer.get();
    parts.collectives = collectives.get();
    parts.trace = &trace;
    for (int h = 0; h < head_count; ++h) parts.heads.push_back({"head" + std::to_string(h), heads[h].get(), 1.0, 0});
  }
  at::Tensor weight() const { return parts.parameters[0].detach().clone(); }

  LinearBackbone backbone;
  Trace trace;
  std::unique_ptr<Collectives> collectives;
  std::vector<std::unique_ptr<FakeHead>> heads;
  std::unique_ptr<GradientReducer> reducer;
  std::unique_ptr<BackboneSgd> optimizer;
  StepParts parts;
};

StepBatch MakeBatch(int64_t count, uint64_t seed, int head_count = 1) {
  StepBatch batch;
  batch.images = at::empty({count, 1, kSide, kSide}, at::kFloat);
  batch.images.normal_(0.0, 1.0, at::make_generator<at::CPUGeneratorImpl>(seed));
  for (int64_t i = 0; i < count; ++i) {
    batch.labels.push_back(static_cast<int64_t>((i * 7 + seed) % kClasses));
    batch.heads.push_back(static_cast<int32_t>((i * 3 + i / 5) % head_count));
  }
  return batch;
}

TEST(TrainingStepTest, ChunksGiveTheStepOfTheWholeBatch) {
  for (int chunks : {2, 3, 5, 17}) {
    Rig whole, parts;
    StepOptions cut;
    cut.accumulation = chunks;
    for (int64_t step = 0; step < 4; ++step) {
      const StepBatch batch = MakeBatch(17, step);
      auto a = TrainingStep(whole.parts, {}, batch, step, 0.1);
      auto b = TrainingStep(parts.parts, cut, batch, step, 0.1);
      ASSERT_TRUE(a.ok()) << a.status();
      ASSERT_TRUE(b.ok()) << b.status();
      EXPECT_NEAR(a->loss, b->loss, 1e-4 * a->loss);
      EXPECT_EQ(b->heads[0].sample_count, 17);
      EXPECT_NEAR(a->heads[0].target_cosine_sum, b->heads[0].target_cosine_sum, 1e-4);
    }
    EXPECT_TRUE(at::allclose(whole.weight(), parts.weight(), 1e-4, 1e-5)) << chunks << " chunks";
    EXPECT_TRUE(at::allclose(whole.heads[0]->weights(), parts.heads[0]->weights(), 1e-4, 1e-5));
  }
}

// Chunk c's call ends only after the backbone has begun chunk c + 1: one after the other would wait for ever.
TEST(TrainingStepTest, TheHeadWorksOnAChunkWhileTheBackboneRunsTheNext) {
  Rig rig;
  std::vector<absl::Notification> begun(4);
  int forwards = 0;
  rig.backbone.on_forward = [&] { begun[forwards++].Notify(); };
  std::vector<bool> overlapped;
  rig.heads[0]->on_step = [&](const StepInput& input) {
    const int next = input.chunk + 1;
    if (next < input.chunk_count) overlapped.push_back(begun[next].WaitForNotificationWithTimeout(absl::Seconds(60)));
  };
  StepOptions options;
  options.accumulation = 4;
  ASSERT_TRUE(TrainingStep(rig.parts, options, MakeBatch(16, 1), 0, 0.1).ok());
  EXPECT_EQ(overlapped, std::vector<bool>(3, true));
}

TEST(TrainingStepTest, AChunksErrorEndsTheStepThoughTheNextHasBegun) {
  Rig rig;
  const at::Tensor before = rig.weight();
  rig.heads[0]->on_step = [&](const StepInput& input) {
    if (input.chunk == 1) rig.heads[0]->fail_with = absl::DataLossError("shard 0 is gone");
  };
  StepOptions options;
  options.accumulation = 4;
  EXPECT_TRUE(absl::IsDataLoss(TrainingStep(rig.parts, options, MakeBatch(16, 1), 0, 0.1).status()));
  EXPECT_TRUE(at::equal(before, rig.weight()));
}

// The whole step against autograd over the joint loss of network and head.
TEST(TrainingStepTest, TheBackboneMovesByTheGradientOfTheJointLoss) {
  Rig rig;
  const StepBatch batch = MakeBatch(8, 3);
  const at::Tensor before = rig.weight();
  const double step = 1e-3;
  const auto loss_at = [&](const at::Tensor& weight) {
    FakeHead head(kClasses, kDim, 10);
    StepInput input;
    input.embeddings = at::mm(batch.images.flatten(1), weight);
    input.labels = batch.labels;
    return head.Step(input)->loss;
  };
  ASSERT_TRUE(TrainingStep(rig.parts, {}, batch, 0, 1.0).ok());
  const at::Tensor moved = before - rig.weight();
  for (int64_t i = 0; i < kSide * kSide; i += 5) {
    at::Tensor up = before.clone(), down = before.clone();
    up[i][2] += step;
    down[i][2] -= step;
    const double slope = (loss_at(up) - loss_at(down)) / (2 * step);
    EXPECT_NEAR(moved[i][2].item<double>(), slope + 5e-4 * before[i][2].item<double>(), 0.02 * std::abs(slope) + 1e-3);
  }
}

TEST(TrainingStepTest, ImagesGoToTheirHeadsWithTheirWeights) {
  Rig two(2);
  two.parts.heads[1].loss_weight = 0.25;
  StepBatch batch = MakeBatch(13, 1, 2);
  // So do labels of steps that follow.
  batch.coming = {{{1, 2, 3}, {0, 1, 0}}, {{4}, {1}}};
  std::vector<std::vector<std::vector<int64_t>>> told(2);
  for (int h = 0; h < 2; ++h) {
    two.heads[h]->on_step = [&told, h](const StepInput& input) { told[h].assign(input.coming_labels.begin(), input.coming_labels.end()); };
  }
  auto figures = TrainingStep(two.parts, {}, batch, 0, 0.1);
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_EQ(figures->heads[0].sample_count + figures->heads[1].sample_count, 13);
  EXPECT_GT(figures->heads[0].sample_count, 0);
  EXPECT_GT(figures->heads[1].sample_count, 0);
  EXPECT_NEAR(figures->loss, figures->heads[0].loss + 0.25 * figures->heads[1].loss, 1e-9);
  EXPECT_EQ(told[0], (std::vector<std::vector<int64_t>>{{1, 3}, {}}));
  EXPECT_EQ(told[1], (std::vector<std::vector<int64_t>>{{2}, {4}}));

  // Each head alone sees the images of its own; the backbone's gradient is the weighted sum.
  at::Tensor expected = at::zeros({kSide * kSide, kDim});
  for (int h = 0; h < 2; ++h) {
    Rig one;
    one.heads[0] = std::make_unique<FakeHead>(kClasses, kDim, 10 + h);
    one.parts.heads[0].client = one.heads[0].get();
    StepBatch own;
    std::vector<at::Tensor> images;
    for (size_t i = 0; i < batch.labels.size(); ++i) {
      if (batch.heads[i] != h) continue;
      images.push_back(batch.images[static_cast<int64_t>(i)]);
      own.labels.push_back(batch.labels[i]);
      own.heads.push_back(0);
    }
    own.images = at::stack(images);
    ASSERT_TRUE(TrainingStep(one.parts, {}, own, 0, 0.1).ok());
    expected += one.parts.parameters[0].grad() * (h == 0 ? 1.0 : 0.25);
  }
  EXPECT_TRUE(at::allclose(two.parts.parameters[0].grad(), expected, 1e-4, 1e-6));
}

TEST(TrainingStepTest, AnEmptyBatchMovesNothingButByWeightDecay) {
  Rig rig;
  const at::Tensor before = rig.weight();
  auto figures = TrainingStep(rig.parts, {}, MakeBatch(0, 1), 0, 0.1);
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_EQ(figures->loss, 0.0);
  EXPECT_TRUE(at::allclose(rig.weight(), before * (1 - 0.1 * 5e-4), 1e-6, 1e-7));
  EXPECT_EQ(rig.heads[0]->next_step(), 1);
}

TEST(TrainingStepTest, EmbeddingsWithoutADirectionAreCountedOverTheChunks) {
  Rig rig;
  StepBatch batch = MakeBatch(16, 1);
  for (int64_t image : {0, 5, 15}) batch.images[image].zero_();
  StepOptions options;
  options.accumulation = 4;
  auto figures = TrainingStep(rig.parts, options, batch, 0, 0.1);
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_EQ(figures->heads[0].degenerate_count, 3);
}

TEST(TrainingStepTest, AChunkOfOneImageDoesNotUseBatchStatistics) {
  Rig rig;
  ASSERT_TRUE(TrainingStep(rig.parts, {}, MakeBatch(1, 1), 0, 0.1).ok());
  EXPECT_EQ(rig.backbone.smallest_training_batch, 1000);
  ASSERT_TRUE(TrainingStep(rig.parts, {}, MakeBatch(2, 1), 1, 0.1).ok());
  EXPECT_EQ(rig.backbone.smallest_training_batch, 2);
}

TEST(TrainingStepTest, ClippingBoundsTheGradientThatTheOptimizerSees) {
  Rig rig;
  StepOptions options;
  options.clip_norm = 0.01;
  auto figures = TrainingStep(rig.parts, options, MakeBatch(16, 1), 0, 0.1);
  ASSERT_TRUE(figures.ok()) << figures.status();
  EXPECT_GT(figures->gradient_norm, 0.01);
  EXPECT_NEAR(rig.parts.parameters[0].grad().norm().item<double>(), 0.01, 1e-6);
}

TEST(TrainingStepTest, AHeadsErrorNamesTheHeadAndLeavesTheBackboneAlone) {
  Rig rig;
  const at::Tensor before = rig.weight();
  rig.heads[0]->fail_with = absl::DataLossError("shard 0 is gone");
  const absl::Status status = TrainingStep(rig.parts, {}, MakeBatch(4, 1), 0, 0.1).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_TRUE(IsPeerLost(status));
  EXPECT_EQ(status.message(), "head head0, step 0: shard 0 is gone");
  EXPECT_TRUE(at::equal(before, rig.weight()));
}

TEST(TrainingStepTest, StepsGoOnFromWhereTheHeadStands) {
  Rig rig;
  ASSERT_TRUE(TrainingStep(rig.parts, {}, MakeBatch(4, 1), 0, 0.1).ok());
  rig.parts.heads[0].first_step = 1;
  EXPECT_TRUE(TrainingStep(rig.parts, {}, MakeBatch(4, 1), 0, 0.1).ok());
  EXPECT_EQ(rig.heads[0]->next_step(), 2);
}

TEST(TrainingStepTest, ARequestToStopIsToldByTheStep) {
  Rig rig;
  EXPECT_FALSE(TrainingStep(rig.parts, {}, MakeBatch(4, 1), 0, 0.1)->stop_requested);
  ASSERT_TRUE(rig.collectives->RequestStop().ok());
  EXPECT_TRUE(TrainingStep(rig.parts, {}, MakeBatch(4, 1), 1, 0.1)->stop_requested);
}

}  // namespace
}  // namespace myriad
