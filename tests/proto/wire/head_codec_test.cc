#include "proto/wire/head_codec.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

HeadSpec Head() {
  HeadSpec head;
  head.name = "faces";
  head.class_count = 1000;
  head.embedding_dim = 8;
  head.seed = 9;
  head.initial_deviation = 0.25;
  return head;
}

v1::TrainingSpec Training() {
  v1::TrainingSpec training;
  training.mutable_arcface()->set_margin(0.5);
  training.set_scale(32);
  training.mutable_uniform()->set_sample_count(100);
  training.mutable_sgd();
  return training;
}

TEST(HeadCodecTest, SpecsComeBackAsTheyWent) {
  EXPECT_EQ(*ParseHeadSpec(ToProto(Head())), Head());
  for (const auto margin : {MarginOptions::Kind::kCosFace, MarginOptions::Kind::kArcFace, MarginOptions::Kind::kArcFaceStraightThrough}) {
    for (const auto sampler : {SamplerOptions::Kind::kUniform, SamplerOptions::Kind::kAll, SamplerOptions::Kind::kAllSample,
                               SamplerOptions::Kind::kPositivesOnly, SamplerOptions::Kind::kPool, SamplerOptions::Kind::kBlock}) {
      for (const auto placement : {Placement::kShard, Placement::kWorker}) {
        TrainingSpec training;
        training.margin = {margin, 0.125, 16};
        training.sampler.kind = sampler;
        const bool draws = sampler != SamplerOptions::Kind::kAll && sampler != SamplerOptions::Kind::kPositivesOnly;
        training.sampler.sample_count = draws ? 77 : 0;
        training.sampler.pool_size = sampler == SamplerOptions::Kind::kPool ? 777 : 0;
        training.sampler.rotated_rows = sampler == SamplerOptions::Kind::kPool ? 7 : 0;
        training.sampler.seed = 5;
        training.optimizer = {OptimizerKind::kSgd, 0.5, 0.25, true, 2.0};
        training.placement = placement;
        const absl::StatusOr<TrainingSpec> back = ParseTrainingSpec(ToProto(training), Head());
        ASSERT_TRUE(back.ok()) << back.status();
        EXPECT_TRUE(CheckSame(training, "sent", *back, "received").ok()) << CheckSame(training, "sent", *back, "received");
      }
    }
  }
}

TEST(HeadCodecTest, OptimizersAndTheirSlotsComeBackAsTheyWent) {
  std::vector<OptimizerOptions> optimizers(3);
  optimizers[0].idle_update = IdleUpdate::kExact;
  optimizers[1] = {OptimizerKind::kAdamW};
  optimizers[1].beta1 = 0.5;
  optimizers[1].beta2 = 0.75;
  optimizers[1].epsilon = 0.125;
  optimizers[1].rate_scale = 0.25;
  optimizers[2] = {OptimizerKind::kAdagrad};
  optimizers[2].epsilon = 0.125;
  optimizers[2].weight_decay = 0.5;
  optimizers[2].rate_scale = 0.25;
  for (const OptimizerOptions& optimizer : optimizers) {
    HeadSpec head = Head();
    head.slots = optimizer.kind;
    EXPECT_EQ(*ParseHeadSpec(ToProto(head)), head);
    TrainingSpec training;
    training.sampler.kind = SamplerOptions::Kind::kAll;
    training.optimizer = optimizer;
    const absl::StatusOr<TrainingSpec> back = ParseTrainingSpec(ToProto(training), head);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(CheckSame(training, "sent", *back, "received").ok()) << CheckSame(training, "sent", *back, "received");
  }
}

TEST(HeadCodecTest, DefaultsOfTheMessagesAreFilledIn) {
  v1::HeadSpec message;
  message.set_name("faces");
  message.set_class_count(10);
  message.set_embedding_dim(4);
  const absl::StatusOr<HeadSpec> head = ParseHeadSpec(message);
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->initial_deviation, 0.01);
  EXPECT_EQ(head->partition_count, 4096);
  EXPECT_EQ(head->weight_dtype, DataType::kFloat32);
  const absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(Training(), Head());
  ASSERT_TRUE(training.ok()) << training.status();
  EXPECT_EQ(training->margin.kind, MarginOptions::Kind::kArcFace);
  EXPECT_EQ(training->optimizer.rate_scale, 1.0);
  EXPECT_EQ(training->optimizer.momentum, 0.0);
  EXPECT_EQ(training->placement, Placement::kShard);

  v1::TrainingSpec rotating = Training();
  rotating.mutable_pool()->set_sample_count(20);
  const absl::StatusOr<TrainingSpec> pool = ParseTrainingSpec(rotating, Head());
  ASSERT_TRUE(pool.ok()) << pool.status();
  EXPECT_EQ(pool->sampler.pool_size, 640);
  EXPECT_EQ(pool->sampler.rotated_rows, 1);
  HeadSpec adamw = Head(), adagrad = Head();
  adamw.slots = OptimizerKind::kAdamW;
  adagrad.slots = OptimizerKind::kAdagrad;
  v1::TrainingSpec other = Training();
  other.mutable_adamw();
  EXPECT_EQ(ParseTrainingSpec(other, adamw)->optimizer.epsilon, 1e-8);
  EXPECT_EQ(ParseTrainingSpec(other, adamw)->optimizer.beta1, 0.0);
  other.mutable_adagrad();
  EXPECT_EQ(ParseTrainingSpec(other, adagrad)->optimizer.epsilon, 1e-10);
}

// A newer caller may mean something by them; a default would be another training than the one that was asked for.
TEST(HeadCodecTest, EnumValuesThatAreNotKnownAreRefused) {
  const std::vector<std::pair<std::string, std::function<void(v1::TrainingSpec*)>>> cases = {
      {"training.arcface.gradient 99", [](auto* t) { t->mutable_arcface()->set_gradient(static_cast<v1::ArcFaceGradient>(99)); }},
      {"training.idle_update 9", [](auto* t) { t->set_idle_update(static_cast<v1::IdleUpdate>(9)); }},
      {"training.placement 9", [](auto* t) { t->set_placement(static_cast<v1::Placement>(9)); }},
  };
  for (const auto& [text, change] : cases) {
    v1::TrainingSpec training = Training();
    change(&training);
    const absl::Status status = ParseTrainingSpec(training, Head()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  v1::HeadSpec head = ToProto(Head());
  head.set_slot_dtype(static_cast<v1::DataType>(7));
  EXPECT_THAT(std::string(ParseHeadSpec(head).status().message()), HasSubstr("dtype 7"));
  EXPECT_EQ(ParseEvaluate(static_cast<v1::StepMode>(7)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(*ParseEvaluate(v1::STEP_MODE_UNSPECIFIED));
  EXPECT_FALSE(*ParseEvaluate(v1::STEP_MODE_TRAIN));
  EXPECT_TRUE(*ParseEvaluate(v1::STEP_MODE_EVALUATE));
}

TEST(HeadCodecTest, WhatIsMissingOrOutOfRangeIsNamed) {
  const std::vector<std::pair<std::string, std::function<void(v1::TrainingSpec*)>>> cases = {
      {"training.margin is not set", [](auto* t) { t->clear_margin(); }},
      {"training.sampler is not set", [](auto* t) { t->clear_sampler(); }},
      {"training.optimizer is not set", [](auto* t) { t->clear_optimizer(); }},
      {"training.sampler.sample_count is 1001", [](auto* t) { t->mutable_uniform()->set_sample_count(1001); }},
      {"training.sampler.sample_count is 0", [](auto* t) { t->mutable_pool(); }},
      {"training.sampler.sample_count is 0", [](auto* t) { t->mutable_block(); }},
      {"training.sampler.pool_size is 9",
       [](auto* t) {
         t->mutable_pool()->set_sample_count(10);
         t->mutable_pool()->set_pool_size(9);
       }},
      {"training.sgd.rate_scale is 1e+39", [](auto* t) { t->mutable_sgd()->set_rate_scale(1e39); }},
      {"training.sgd.weight_decay is nan", [](auto* t) { t->mutable_sgd()->set_weight_decay(std::nan("")); }},
  };
  for (const auto& [text, change] : cases) {
    v1::TrainingSpec training = Training();
    change(&training);
    const absl::Status status = ParseTrainingSpec(training, Head()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(HeadCodecTest, DenominatorsComeBackAsTheyWentAndMustFitEachOther) {
  Denominators denominators;
  denominators.max_logit = {1.5f, -std::numeric_limits<float>::infinity(), 3.0f};
  denominators.sum_exp = {2.25, 0.0, 1e300};
  denominators.target_index = {0, 2};
  denominators.target_logit = {-7.125, 8.0};
  denominators.target_cosine = {0.5f, -0.25f};
  const v1::Denominators message = ToProto(denominators);
  const absl::StatusOr<Denominators> back = ParseDenominators(message, 3);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->max_logit, denominators.max_logit);
  EXPECT_EQ(back->sum_exp, denominators.sum_exp);
  EXPECT_EQ(back->target_index, denominators.target_index);
  EXPECT_EQ(back->target_logit, denominators.target_logit);
  EXPECT_EQ(back->target_cosine, denominators.target_cosine);

  EXPECT_EQ(ParseDenominators(message, 4).status().code(), absl::StatusCode::kInvalidArgument) << "of another number of samples";
  const std::vector<std::function<void(v1::Denominators*)>> spoils = {
      [](auto* d) { d->mutable_max_logit()->pop_back(); },     [](auto* d) { d->mutable_sum_exp()->resize(16); },
      [](auto* d) { d->mutable_target_index()->resize(4); },   [](auto* d) { d->mutable_target_logit()->clear(); },
      [](auto* d) { d->mutable_target_cosine()->resize(12); }, [](auto* d) { (*d->mutable_target_index())[4] = 3; },
      [](auto* d) { (*d->mutable_target_index())[4] = 0; },    [](auto* d) { (*d->mutable_target_index())[3] = '\x80'; },
  };
  for (size_t i = 0; i < spoils.size(); ++i) {
    v1::Denominators spoilt = message;
    spoils[i](&spoilt);
    EXPECT_EQ(ParseDenominators(spoilt, 3).status().code(), absl::StatusCode::kInvalidArgument) << "case " << i;
  }
}

// A log Z that is no number would make every row of a step one as well, after all shards have voted.
TEST(HeadCodecTest, MergedDenominatorsComeBackUnlessLogZIsNoNumber) {
  MergedDenominators merged;
  merged.log_z = {1.5, -std::numeric_limits<double>::infinity(), -3.25};  // The second sample met no row.
  merged.target_present = {1, 0, 1};
  merged.loss_sum = 2.5;
  merged.target_cosine_sum = 0.75;
  merged.target_count = 2;
  const absl::StatusOr<MergedDenominators> back = ParseMerged(ToProto(merged));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->log_z, merged.log_z);
  EXPECT_EQ(back->target_present, merged.target_present);
  EXPECT_EQ(back->loss_sum, merged.loss_sum);
  EXPECT_EQ(back->target_cosine_sum, merged.target_cosine_sum);
  EXPECT_EQ(back->target_count, merged.target_count);

  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    MergedDenominators spoilt = merged;
    spoilt.log_z[2] = bad;
    const absl::Status status = ParseMerged(ToProto(spoilt)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("log Z of sample 2"));
  }
  v1::MergedDenominators short_flags = ToProto(merged);
  short_flags.mutable_target_present()->pop_back();
  EXPECT_EQ(ParseMerged(short_flags).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace myriad
