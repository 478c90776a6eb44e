#include "worker/schedule.h"

#include <limits>

#include <gtest/gtest.h>

namespace myriad {
namespace {

Schedule Of(Schedule::Decay decay) {
  Schedule schedule;
  schedule.learning_rate = 0.4;
  schedule.warmup_steps = 4;
  schedule.total_steps = 104;
  schedule.decay = decay;
  return schedule;
}

TEST(ScheduleTest, WarmUpRisesInEqualPartsToTheHighestRate) {
  for (auto decay : {Schedule::Decay::kPolynomial, Schedule::Decay::kStep, Schedule::Decay::kCosine, Schedule::Decay::kConstant}) {
    const Schedule schedule = Of(decay);
    EXPECT_DOUBLE_EQ(LearningRate(schedule, 0), 0.1);
    EXPECT_DOUBLE_EQ(LearningRate(schedule, 1), 0.2);
    EXPECT_DOUBLE_EQ(LearningRate(schedule, 3), 0.4);
    EXPECT_DOUBLE_EQ(LearningRate(schedule, 4), 0.4);
  }
}

TEST(ScheduleTest, CosineFallsHalfWayInTheMiddleAndStaysAboveZero) {
  const Schedule schedule = Of(Schedule::Decay::kCosine);
  EXPECT_NEAR(LearningRate(schedule, 54), 0.2, 1e-12);
  EXPECT_GT(LearningRate(schedule, 103), 0.0);
  EXPECT_LT(LearningRate(schedule, 103), 0.4 * 0.001);
  for (int64_t t = 4; t < 103; ++t) EXPECT_GT(LearningRate(schedule, t), LearningRate(schedule, t + 1));
}

TEST(ScheduleTest, PolynomialIsThePowerOfWhatIsLeft) {
  Schedule schedule = Of(Schedule::Decay::kPolynomial);
  schedule.power = 3.0;
  EXPECT_NEAR(LearningRate(schedule, 54), 0.4 * 0.125, 1e-12);
  EXPECT_NEAR(LearningRate(schedule, 79), 0.4 * 0.25 * 0.25 * 0.25, 1e-12);
}

TEST(ScheduleTest, EachMilestoneDropsTheRateFromItsStepOn) {
  Schedule schedule = Of(Schedule::Decay::kStep);
  schedule.milestone_steps = {30, 60};
  schedule.factor = 0.5;
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 29), 0.4);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 30), 0.2);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 59), 0.2);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 60), 0.1);
}

TEST(ScheduleTest, StepsPastTheEndKeepTheLastRate) {
  const Schedule schedule = Of(Schedule::Decay::kCosine);
  EXPECT_EQ(LearningRate(schedule, 103), LearningRate(schedule, 1000));
  EXPECT_EQ(LearningRate(Of(Schedule::Decay::kConstant), 1000), 0.4);
}

TEST(ScheduleTest, WhatIsOutOfRangeIsRefusedByName) {
  struct Case {
    const char* field;
    void (*change)(Schedule*);
  };
  const Case cases[] = {
      {"learning_rate", [](Schedule* s) { s->learning_rate = 0.0; }},
      {"learning_rate", [](Schedule* s) { s->learning_rate = std::numeric_limits<double>::quiet_NaN(); }},
      {"warmup_steps", [](Schedule* s) { s->warmup_steps = -1; }},
      {"total steps", [](Schedule* s) { s->total_steps = 0; }},
      {"polynomial.power", [](Schedule* s) { s->power = 0.0; }},
      {"step.factor", [](Schedule* s) { s->factor = 1.0; }},
      {"milestone_epochs",
       [](Schedule* s) {
         s->milestone_steps = {5, 4};
       }},
  };
  EXPECT_TRUE(Validate(Schedule()).ok());
  for (const Case& c : cases) {
    Schedule schedule;
    c.change(&schedule);
    const absl::Status status = Validate(schedule);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field;
    EXPECT_NE(status.message().find(c.field), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace myriad
