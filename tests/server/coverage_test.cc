#include "server/coverage.h"

#include <cmath>
#include <numeric>

#include "gtest/gtest.h"

namespace myriad {
namespace {

TEST(CoverageTest, StepsAreCountedByPowersOfTwo) {
  std::vector<int64_t> histogram;
  for (int64_t steps = 0; steps < 1000; ++steps) CountSteps(steps, &histogram);
  EXPECT_EQ(histogram, (std::vector<int64_t>{1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 488}));
}

TEST(CoverageTest, NormsHaveTheirMeanAndQuantiles) {
  std::vector<double> norms(1001);
  std::iota(norms.begin(), norms.end(), 5.0);
  Coverage coverage;
  SummarizeNorms(norms, &coverage);
  EXPECT_DOUBLE_EQ(coverage.norm_mean, 505.0);
  EXPECT_EQ(coverage.norm_quantiles, (std::vector<double>{5, 15, 105, 505, 905, 995, 1005}));
  SummarizeNorms({}, &coverage);
  EXPECT_TRUE(coverage.norm_quantiles.empty());
}

TEST(CoverageTest, PositivesOfFewClassesAreAllWatched) {
  PositiveWatch watch(100);
  watch.Record(3, {5, 5, 7});
  watch.Record(8, {7, 9});
  Coverage coverage;
  watch.Summarize(/*committed_steps=*/9, &coverage);
  EXPECT_EQ(coverage.watched_classes, 100);
  EXPECT_EQ(coverage.never_positive, 97);
  EXPECT_EQ(coverage.steps_since_positive, (std::vector<int64_t>{2, 0, 0, 1}));
}

// Of many classes a part is watched that takes bounded memory and stands for all.
TEST(CoverageTest, PositivesOfManyClassesAreWatchedByChance) {
  constexpr int64_t kClasses = 1000000;
  PositiveWatch watch(kClasses, 1000);
  for (int64_t first = 0; first < kClasses / 2; first += 1000) {
    std::vector<int64_t> labels(1000);
    std::iota(labels.begin(), labels.end(), first);
    watch.Record(0, labels);
  }
  Coverage coverage;
  watch.Summarize(1, &coverage);
  EXPECT_EQ(coverage.watched_classes, 1000);
  const double seen = static_cast<double>(coverage.watched_classes - coverage.never_positive);
  EXPECT_NEAR(seen, 500, 5 * std::sqrt(500.0));
}

// A head that grows is watched in as much memory as before, and what is watched still was all the time.
TEST(CoverageTest, PositivesOfAHeadThatHasGrownAreWatchedByChance) {
  constexpr int64_t kClasses = 1000000;
  PositiveWatch watch(1000, 1000);
  std::vector<int64_t> labels(1000);
  std::iota(labels.begin(), labels.end(), 0);
  watch.Record(0, labels);
  watch.Grow(kClasses);
  for (int64_t first = 0; first < kClasses / 2; first += 1000) {
    std::iota(labels.begin(), labels.end(), first);
    watch.Record(0, labels);
  }
  Coverage coverage;
  watch.Summarize(1, &coverage);
  EXPECT_EQ(coverage.watched_classes, 1000);
  EXPECT_NEAR(static_cast<double>(coverage.watched_classes - coverage.never_positive), 500, 5 * std::sqrt(500.0));
}

}  // namespace
}  // namespace myriad
