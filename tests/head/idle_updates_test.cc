#include "head/idle_updates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

// A number of a row and its momentum, moved by one step of torch.optim.SGD with gradient g, in the arithmetic of T.
template <typename T>
struct Dense {
  T w = 0;
  T v = 0;
  void Step(const SgdStep& s, T g) {
    v = T(s.momentum) * v + (g + T(s.coupled_decay) * w);
    w = w - T(s.rate) * (v + T(s.decoupled_decay) * w);
  }
};

SgdStep Coupled(float rate, float decay = 5e-4f, float momentum = 0.9f) { return {momentum, decay, 0.0f, rate}; }
SgdStep Decoupled(float rate, float decay = 5e-4f, float momentum = 0.9f) { return {momentum, 0.0f, decay, rate}; }

void Apply(const RowMap& map, Dense<float>* row) { MapRow(map, 1, &row->w, &row->v); }

TEST(IdleUpdatesTest, ARangeIsTheProductOfItsSteps) {
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  IdleUpdates updates;
  const int64_t first = 1000, count = 300;
  for (int64_t i = 0; i < count; ++i) {
    const bool coupled = uniform(rng) < 0.5f;
    const float rate = uniform(rng), decay = 0.1f * uniform(rng), momentum = uniform(rng);
    updates.Append(first + i, coupled ? Coupled(rate, decay, momentum) : Decoupled(rate, decay, momentum));
  }
  for (int trial = 0; trial < 2000; ++trial) {
    const int64_t last = first - 5 + rng() % (count + 10), until = last + rng() % (first + count + 10 - last);
    Dense<double> row{uniform(rng) - 0.5, uniform(rng) - 0.5};
    const Dense<double> start = row;
    for (int64_t step = last + 1; step <= until; ++step) {
      if (step >= first && step < first + count) row.Step(updates.steps()[step - first], 0.0);
    }
    const RowMap map = updates.Between(last, until);
    ASSERT_NEAR(map.ww * start.w + map.wv * start.v, row.w, 1e-12) << last << " to " << until;
    ASSERT_NEAR(map.vw * start.w + map.vv * start.v, row.v, 1e-12) << last << " to " << until;
  }
}

TEST(IdleUpdatesTest, TheSameStepsGiveTheSameBits) {
  std::mt19937 rng(2);
  std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
  IdleUpdates updates, early;
  for (int64_t step = 7; step < 1007; ++step) {
    if (step % 50 < 3) continue;
    const SgdStep constants = Coupled(0.1f * uniform(rng));
    updates.Append(step, constants);
    if (step < 600) early.Append(step, constants);
  }
  IdleUpdates restored;
  restored.Restore(updates.first_step(), updates.steps());
  const auto bits_equal = [](const RowMap& a, const RowMap& b) { return a.ww == b.ww && a.wv == b.wv && a.vw == b.vw && a.vv == b.vv; };
  for (int64_t last = 0; last < 1007; last += 3) {
    for (int64_t until = last; until < 1007; until += 17) {
      ASSERT_TRUE(bits_equal(updates.Between(last, until), restored.Between(last, until)));
      if (until < 600) {
        ASSERT_TRUE(bits_equal(updates.Between(last, until), early.Between(last, until)));
      }
    }
    ASSERT_EQ(updates.SettlingStep(last), restored.SettlingStep(last));
    ASSERT_TRUE(bits_equal(updates.SinceSettling(last, 1006), restored.SinceSettling(last, 1006)));
    if (early.SettlingStep(last) != IdleUpdates::kNotYet) {
      ASSERT_EQ(updates.SettlingStep(last), early.SettlingStep(last));
    }
  }
}

TEST(IdleUpdatesTest, StepsLeftOutMoveNothing) {
  IdleUpdates updates;
  updates.Append(10, Coupled(0.1f));
  updates.Append(400, Coupled(0.1f));
  const RowMap map = updates.Between(10, 399);
  EXPECT_EQ(map.ww, 1.0);
  EXPECT_EQ(map.wv, 0.0);
  EXPECT_EQ(map.vw, 0.0);
  EXPECT_EQ(map.vv, 1.0);
  EXPECT_EQ(updates.SettlingStep(10), IdleUpdates::kNotYet) << "momentum is still there";
}

TEST(IdleUpdatesTest, ARowSettlesWhenItsMomentumIsGone) {
  for (const bool decoupled : {false, true}) {
    IdleUpdates updates;
    for (int64_t step = 0; step < 1000; ++step) updates.Append(step, decoupled ? Decoupled(0.1f) : Coupled(0.1f));
    for (int64_t last = -1; last < 800; last += 50) {
      EXPECT_GE(updates.SettlingStep(last) - last, 158);
      EXPECT_LE(updates.SettlingStep(last) - last, 160);
    }
    EXPECT_EQ(updates.SettlingStep(-100), updates.SettlingStep(-1));
    EXPECT_EQ(updates.SettlingStep(900), IdleUpdates::kNotYet);
  }
  IdleUpdates without_momentum;
  for (int64_t step = 0; step < 10; ++step) without_momentum.Append(step, Coupled(0.1f, 5e-4f, 0.0f));
  EXPECT_EQ(without_momentum.SettlingStep(3), 4);
}

// What is lost by settling is momentum of 2^-24 of what there was, whatever the rates: even where decay swings rows through 0.
TEST(IdleUpdatesTest, WhatSettlingForgetsIsBelowFloat32) {
  for (const float decay : {0.0f, 5e-4f, 0.02f, 0.5f, 5.0f}) {
    for (const float momentum : {0.0f, 0.5f, 0.9f, 0.99f}) {
      SCOPED_TRACE(absl::StrCat("decay ", decay, ", momentum ", momentum));
      IdleUpdates updates;
      for (int64_t step = 0; step < 4000; ++step) updates.Append(step, Coupled(step % 1000 < 500 ? 0.1f : 0.01f, decay, momentum));
      for (const int64_t last : {int64_t{0}, int64_t{450}, int64_t{495}, int64_t{1303}}) {
        const int64_t settled = updates.SettlingStep(last);
        if (settled == IdleUpdates::kNotYet) continue;
        // A momentum alone: what is left of it beside the share that the weights tell.
        const RowMap map = updates.Between(last, settled), told = updates.SinceSettling(settled, settled);
        EXPECT_LE(std::abs(map.vv - told.vw * map.wv), 0x1p-23 * (1.0 + std::abs(told.vw)));
      }
    }
  }
}

// A row as a store keeps it: its numbers, and the step as of which they are.
struct Stored {
  Dense<float> row;
  int64_t step = -1;
  bool settled = true;  // A virtual row is.
};

// Where it stands after step `until`.
Dense<float> CaughtUp(const IdleUpdates& updates, const Stored& stored, int64_t until) {
  Dense<float> row = stored.row;
  int64_t step = stored.step;
  bool settled = stored.settled;
  const int64_t settling = settled ? IdleUpdates::kNotYet : updates.SettlingStep(step);
  if (settling != IdleUpdates::kNotYet && settling <= until) {
    Apply(updates.Between(step, settling), &row);
    step = settling;
    settled = true;
  }
  if (settled) row.v = 0.0f;
  Apply(settled ? updates.SinceSettling(step, until) : updates.Between(step, until), &row);
  return row;
}

// A thousand steps in which nobody touches a row, the rate falling to a tenth in the middle, against SGD that moves it in each of them.
TEST(IdleUpdatesTest, AThousandIdleStepsEqualDenseSgd) {
  for (const bool decoupled : {false, true}) {
    SCOPED_TRACE(decoupled ? "decoupled" : "coupled");
    std::mt19937 rng(3);
    std::normal_distribution<double> normal;
    constexpr int64_t kTouched = 40, kEnd = kTouched + 1000;
    IdleUpdates updates;
    std::vector<SgdStep> steps;
    for (int64_t step = 0; step <= kEnd; ++step) {
      const float rate = step < kTouched + 500 ? 0.1f : 0.01f;
      steps.push_back(decoupled ? Decoupled(rate, 0.01f) : Coupled(rate, 0.01f));
    }
    for (int trial = 0; trial < 200; ++trial) {
      // Virtual up to kTouched, then idle up to any later step.
      Stored stored;
      stored.row.w = static_cast<float>(0.01 * normal(rng));
      const float fresh = stored.row.w;
      const float g = static_cast<float>(0.01 * normal(rng));
      updates = IdleUpdates();
      Dense<double> wide{fresh, 0.0};
      Dense<float> narrow{fresh, 0.0f};
      for (int64_t step = 0; step <= kEnd; ++step) {
        if (step == kTouched) {
          stored.row = CaughtUp(updates, stored, step - 1);
          stored.row.Step(steps[step], g);
          stored.step = step;
          stored.settled = false;
        }
        wide.Step(steps[step], step == kTouched ? double{g} : 0.0);
        narrow.Step(steps[step], step == kTouched ? g : 0.0f);
        updates.Append(step, steps[step]);
        if (step % 97 != 0 && step != kEnd) continue;
        const Dense<float> row = CaughtUp(updates, stored, step);
        const double size = std::abs(double{fresh}) + std::abs(double{g});
        ASSERT_NEAR(row.w, wide.w, 5e-7 * size) << "step " << step;
        ASSERT_NEAR(row.v, wide.v, 5e-7 * size) << "step " << step;
        // Dense SGD in float32 rounds a thousand times.
        ASSERT_NEAR(row.w, narrow.w, 1e-4 * size) << "step " << step;
      }
    }
  }
}

// Random steps over many rows, rates and regimes that change, runs that let idle rows be between: caught-up rows are those of dense SGD.
TEST(IdleUpdatesTest, AnyTrainingEqualsDenseSgd) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937 rng(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<float> uniform(0.0f, 1.0f);
    constexpr int kRows = 25;
    std::vector<Stored> rows(kRows);
    std::vector<Dense<double>> dense(kRows);
    for (int j = 0; j < kRows; ++j) {
      rows[j].row.w = static_cast<float>(normal(rng));
      dense[j].w = rows[j].row.w;
    }
    IdleUpdates updates;
    SgdStep constants = Coupled(0.1f);
    bool exact = true;
    for (int64_t step = 0; step < 1500; ++step) {
      if (rng() % 200 == 0) {
        const float momentum = uniform(rng) < 0.2f ? 0.0f : 0.5f + 0.4f * uniform(rng), decay = 0.02f * uniform(rng);
        constants = uniform(rng) < 0.5f ? Coupled(0.1f, decay, momentum) : Decoupled(0.1f, decay, momentum);
        exact = uniform(rng) < 0.8f;
      }
      constants.rate = 0.1f * uniform(rng);
      const int touched = static_cast<int>(rng() % kRows);
      for (int j = 0; j < kRows; ++j) {
        if (j != touched || step % 3 != 0) {
          if (exact) dense[j].Step(constants, 0.0);
          continue;
        }
        const float g = static_cast<float>(normal(rng));
        dense[j].Step(constants, double{g});
        rows[j].row = CaughtUp(updates, rows[j], step - 1);
        rows[j].row.Step(constants, g);
        rows[j].step = step;
        rows[j].settled = false;
      }
      if (exact) updates.Append(step, constants);
      const int read = static_cast<int>(rng() % kRows);
      const Dense<float> row = CaughtUp(updates, rows[read], step);
      ASSERT_NEAR(row.w, dense[read].w, 2e-5) << "row " << read << " after step " << step;
      ASSERT_NEAR(row.v, dense[read].v, 2e-5) << "row " << read << " after step " << step;
    }
  }
}

}  // namespace
}  // namespace myriad
