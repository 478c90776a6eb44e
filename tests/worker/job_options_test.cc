#include "worker/job_options.h"

#include <cmath>

#include <gtest/gtest.h>

#include "client/job_config.h"

namespace myriad {
namespace {

// A configuration as the worker gets it.
config::v1::JobConfig Resolved(const std::string& more) {
  auto config = ParseJobConfig("heads { spec { name: 'faces' } } datasets { path: 'data' } backbone { small_resnet {} } " + more, "test");
  EXPECT_TRUE(config.ok()) << config.status();
  absl::Status status = FillDefaults(&*config);
  EXPECT_TRUE(status.ok()) << status;
  status = ResolveWithData({{{"faces", 100}}, 48, 1}, &*config);
  EXPECT_TRUE(status.ok()) << status;
  return *config;
}

TEST(JobOptionsTest, DefaultsAreThoseOfTheConfiguration) {
  const config::v1::JobConfig config = Resolved("");
  const BackboneSpec spec = BackboneSpecOf(config.backbone());
  EXPECT_EQ(spec.network, BackboneSpec::Network::kSmallResNet);
  EXPECT_EQ(spec.width, 16);
  EXPECT_EQ(spec.embedding_dim, 128);
  EXPECT_EQ(spec.image_size, 48);
  EXPECT_EQ(spec.channels, 1);
  EXPECT_EQ(SgdOptionsOf(config.backbone_optimizer()).momentum, 0.9);
  EXPECT_EQ(SgdOptionsOf(config.backbone_optimizer()).weight_decay, 5e-4);
  auto schedule = ScheduleOf(config, 156);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->total_steps, 8 * 156);
  EXPECT_EQ(schedule->learning_rate, 0.1);
  EXPECT_EQ(schedule->decay, Schedule::Decay::kCosine);
  const TrainingOptions options = TrainingOptionsOf(config, *schedule);
  EXPECT_EQ(options.step.accumulation, 1);
  EXPECT_FALSE(options.step.bfloat16);
  EXPECT_TRUE(std::isinf(options.step.clip_norm));
  EXPECT_EQ(options.log_every_steps, 20);
  EXPECT_EQ(options.look_ahead_steps, 2);
}

TEST(JobOptionsTest, WhatIsWrittenIsTaken) {
  const config::v1::JobConfig config = Resolved(
      "schedule { learning_rate: 0.4 warmup_steps: 10 step { milestone_epochs: 2.5 milestone_epochs: 4 factor: 0.2 } } "
      "training { epochs: 5 accumulation: 4 precision: PRECISION_BFLOAT16 log_every_steps: 3 } "
      "backbone_optimizer { momentum: 0 clip_norm: 5 }");
  auto schedule = ScheduleOf(config, 100);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->total_steps, 500);
  EXPECT_EQ(schedule->milestone_steps, std::vector<int64_t>({250, 400}));
  EXPECT_EQ(schedule->factor, 0.2);
  EXPECT_EQ(schedule->warmup_steps, 10);
  const TrainingOptions options = TrainingOptionsOf(config, *schedule);
  EXPECT_EQ(options.step.accumulation, 4);
  EXPECT_TRUE(options.step.bfloat16);
  EXPECT_EQ(options.step.clip_norm, 5.0);
  EXPECT_EQ(SgdOptionsOf(config.backbone_optimizer()).momentum, 0.0);
}

TEST(JobOptionsTest, StepsGoBeforeEpochs) {
  EXPECT_EQ(ScheduleOf(Resolved("training { steps: 77 }"), 100)->total_steps, 77);
  EXPECT_EQ(ScheduleOf(Resolved("training { epochs: 0.25 }"), 100)->total_steps, 25);
}

TEST(JobOptionsTest, ARunThatIsTooShortIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(ScheduleOf(Resolved("training { epochs: 0.001 }"), 100).status()));
  const absl::Status status = ScheduleOf(Resolved("training { epochs: 0.05 } schedule { warmup_steps: 6 }"), 100).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("warmup_steps is 6"), std::string::npos) << status;
}

}  // namespace
}  // namespace myriad
