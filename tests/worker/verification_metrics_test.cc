#include "worker/verification_metrics.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace myriad {
namespace {

// `folds` folds of the same scores.
struct Pairs {
  std::vector<float> scores;
  std::vector<bool> same;
};

Pairs Repeat(int folds, const std::vector<float>& same, const std::vector<float>& different) {
  Pairs pairs;
  for (int fold = 0; fold < folds; ++fold) {
    for (float score : same) {
      pairs.scores.push_back(score);
      pairs.same.push_back(true);
    }
    for (float score : different) {
      pairs.scores.push_back(score);
      pairs.same.push_back(false);
    }
  }
  return pairs;
}

TEST(VerificationMetricsTest, ScoresThatDoNotOverlapGiveAccuracyOne) {
  const Pairs pairs = Repeat(10, {0.9f, 0.7f}, {0.1f, 0.3f});
  const auto metrics = MeasureVerification(pairs.scores, pairs.same, 10, {0.01});
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  EXPECT_EQ(metrics->accuracy, 1.0);
  EXPECT_EQ(metrics->accuracy_deviation, 0.0);
  EXPECT_NEAR(metrics->threshold, 0.5, 1e-6);
  ASSERT_EQ(metrics->true_accept_rates.size(), 1u);
  EXPECT_EQ(metrics->true_accept_rates[0].second, 1.0);
}

TEST(VerificationMetricsTest, OnePairInFourOnTheWrongSideGivesThreeQuarters) {
  const Pairs pairs = Repeat(10, {0.9f, 0.2f}, {0.1f, 0.15f});
  // The best threshold lies between 0.15 and 0.2: all right. Move one different pair above all others: one of four is always wrong.
  const Pairs worse = Repeat(10, {0.9f, 0.8f}, {0.95f, 0.1f});
  EXPECT_EQ(MeasureVerification(pairs.scores, pairs.same, 10, {})->accuracy, 1.0);
  EXPECT_EQ(MeasureVerification(worse.scores, worse.same, 10, {})->accuracy, 0.75);
}

// A fold that disagrees with the others is judged by the others' threshold, not by its own.
TEST(VerificationMetricsTest, TheThresholdComesFromTheOtherFolds) {
  Pairs pairs = Repeat(9, {0.9f}, {0.1f});
  pairs.scores.insert(pairs.scores.end(), {0.05f, 0.01f});
  pairs.same.insert(pairs.same.end(), {true, false});
  const auto metrics = MeasureVerification(pairs.scores, pairs.same, 10, {});
  ASSERT_TRUE(metrics.ok());
  // Nine folds are right; in the tenth the same pair at 0.05 is below 0.5.
  EXPECT_NEAR(metrics->accuracy, (9 * 1.0 + 0.5) / 10, 1e-12);
  EXPECT_NEAR(metrics->accuracy_deviation, std::sqrt((9 * 0.05 * 0.05 + 0.45 * 0.45) / 10), 1e-12);
}

TEST(VerificationMetricsTest, TrueAcceptRateAllowsAtMostItsPartOfFalseAccepts) {
  // Ten different pairs at 0.0, 0.1, ... 0.9; same pairs between them.
  Pairs pairs;
  for (int i = 0; i < 10; ++i) {
    pairs.scores.push_back(0.1f * static_cast<float>(i));
    pairs.same.push_back(false);
    pairs.scores.push_back(0.1f * static_cast<float>(i) + 0.05f);
    pairs.same.push_back(true);
  }
  const auto metrics = MeasureVerification(pairs.scores, pairs.same, 10, {0.05, 0.1, 0.29, 0.3, 0.999});
  ASSERT_TRUE(metrics.ok());
  const auto& rates = metrics->true_accept_rates;
  EXPECT_DOUBLE_EQ(rates[0].second, 0.1);  // No false accept: only 0.95.
  EXPECT_DOUBLE_EQ(rates[1].second, 0.2);  // One: 0.9.
  EXPECT_DOUBLE_EQ(rates[2].second, 0.3);
  EXPECT_DOUBLE_EQ(rates[3].second, 0.4);
  EXPECT_DOUBLE_EQ(rates[4].second, 1.0);  // The lowest same pair is above the lowest different one.
  EXPECT_EQ(rates[4].first, 0.999);
}

TEST(VerificationMetricsTest, EqualScoresAreAcceptedTogether) {
  const Pairs pairs = Repeat(10, {0.5f, 0.5f}, {0.5f, 0.5f});
  const auto metrics = MeasureVerification(pairs.scores, pairs.same, 10, {0.5});
  ASSERT_TRUE(metrics.ok());
  EXPECT_EQ(metrics->accuracy, 0.5);
  EXPECT_EQ(metrics->true_accept_rates[0].second, 0.0);
}

TEST(VerificationMetricsTest, WrongInputIsRefused) {
  const Pairs pairs = Repeat(10, {0.9f}, {0.1f});
  const auto refused = [](const std::vector<float>& scores, const std::vector<bool>& same, int folds) {
    return MeasureVerification(scores, same, folds, {}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(refused({}, {}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(pairs.scores, pairs.same, 7)));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(pairs.scores, pairs.same, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(pairs.scores, {true, false}, 10)));
  EXPECT_TRUE(absl::IsInvalidArgument(refused(pairs.scores, std::vector<bool>(20, true), 10)));
  std::vector<float> broken = pairs.scores;
  broken[3] = std::numeric_limits<float>::quiet_NaN();
  const absl::Status status = refused(broken, pairs.same, 10);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("pair 3"), std::string::npos) << status;
}

}  // namespace
}  // namespace myriad
