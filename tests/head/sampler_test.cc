#include "head/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "head/counter_random.h"
#include "head/pool_rotation.h"

namespace myriad {
namespace {

using Kind = SamplerOptions::Kind;

SamplerOptions Options(Kind kind, int64_t sample_count, uint64_t seed = 1) {
  SamplerOptions options;
  options.kind = kind;
  options.sample_count = sample_count;
  options.seed = seed;
  return options;
}

SamplerOptions Pool(int64_t sample_count, int64_t pool_size, int64_t rotated_rows, uint64_t seed = 1) {
  SamplerOptions options = Options(Kind::kPool, sample_count, seed);
  options.pool_size = pool_size;
  options.rotated_rows = rotated_rows;
  return options;
}

// One of each kind, which draws half of the classes if it draws a sample.
std::vector<SamplerOptions> AllKinds(int64_t class_count) {
  const int64_t half = (class_count + 1) / 2;
  return {Options(Kind::kUniform, half),
          Options(Kind::kAll, 0),
          Options(Kind::kAllSample, half),
          Options(Kind::kPositivesOnly, 0),
          Pool(half, (half + class_count) / 2, (half + 15) / 16),
          Options(Kind::kBlock, half)};
}

std::set<int64_t> UnionOverShards(const Partitions& partitions, const SamplerOptions& options, int64_t step, int shard_count,
                                  absl::Span<const int64_t> labels) {
  std::set<int64_t> classes;
  size_t total = 0;
  for (int shard = 0; shard < shard_count; ++shard) {
    const StepRows rows = DrawStepRows(partitions, options, step, shard, shard_count, labels);
    classes.insert(rows.class_ids.begin(), rows.class_ids.end());
    total += rows.class_ids.size();
    for (int64_t class_id : rows.class_ids) EXPECT_EQ(partitions.ShardOfClass(class_id, shard_count), shard);
  }
  EXPECT_EQ(classes.size(), total) << "a class was drawn twice";
  return classes;
}

std::vector<int64_t> Labels(int64_t class_count, int count, uint64_t seed) {
  std::vector<int64_t> labels;
  for (int i = 0; i < count; ++i) {
    labels.push_back(static_cast<int64_t>(UniformBelow(Mix64(seed * 1000 + i), static_cast<uint64_t>(class_count))));
  }
  if (count > 2) labels[1] = labels[0];  // A class may repeat.
  return labels;
}

struct Size {
  int64_t class_count;
  int64_t sample_count;
};

TEST(SamplerTest, DrawsAreDistinctAndExactlyAsManyAsAskedFor) {
  for (const Size& size : std::vector<Size>{{1, 0},
                                            {1, 1},
                                            {2, 1},
                                            {2, 2},
                                            {4097, 0},
                                            {4097, 1},
                                            {4097, 1000},
                                            {4097, 4097},
                                            {50'021, 20'000},
                                            {1'000'000'000, 5000},
                                            {int64_t{1} << 40, 5000}}) {
    SCOPED_TRACE(absl::StrCat("N ", size.class_count, ", S ", size.sample_count));
    const Partitions partitions(size.class_count, 3);
    std::vector<SamplerOptions> kinds = {Options(Kind::kUniform, size.sample_count)};
    if (size.sample_count > 0) {
      kinds.push_back(Options(Kind::kBlock, size.sample_count));
      kinds.push_back(Pool(size.sample_count, std::min(size.class_count, 10 * size.sample_count), size.sample_count));
      kinds.push_back(Pool(size.sample_count, size.sample_count, 1));
    }
    for (const SamplerOptions& options : kinds) {
      for (int64_t step = 0; step < 5; ++step) {
        const StepRows rows = DrawStepRows(partitions, options, step, 0, 1, {});
        EXPECT_EQ(rows.drawn_count, size.sample_count);
        EXPECT_EQ(static_cast<int64_t>(rows.class_ids.size()), size.sample_count);
        const std::set<int64_t> distinct(rows.class_ids.begin(), rows.class_ids.end());
        EXPECT_EQ(distinct.size(), rows.class_ids.size());
        if (!distinct.empty()) {
          EXPECT_GE(*distinct.begin(), 0);
          EXPECT_LT(*distinct.rbegin(), size.class_count);
        }
        // Memory follows the sample, not the classes: with 2^40 of them nothing else could return.
        EXPECT_LE(rows.class_ids.capacity(), static_cast<size_t>(2 * size.sample_count + 16));
      }
    }
  }
}

// Sum over classes of (count - T p)^2 / (T p (1 - p)), which is N when every class has rate p = S/M independently from step to step in
// the T = steps * M/N steps in which it may be drawn.
double RateStatistic(int64_t class_count, const SamplerOptions& options, int64_t drawn_from, int64_t steps) {
  const Partitions partitions(class_count, 3);
  std::vector<int> counts(class_count, 0);
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t class_id : DrawStepRows(partitions, options, step, 0, 1, {}).class_ids) ++counts[class_id];
  }
  const double present = static_cast<double>(steps * drawn_from) / static_cast<double>(class_count);
  const double rate = static_cast<double>(options.sample_count) / static_cast<double>(drawn_from);
  double statistic = 0.0;
  for (int count : counts) statistic += std::pow(count - present * rate, 2) / (present * rate * (1 - rate));
  return statistic;
}

TEST(SamplerTest, EveryClassHasRateSOverN) {
  struct Case {
    int64_t class_count, sample_count, steps;
  };
  // 4,097 classes: one partition has two classes and all others one, so a rate by partition instead of by class would show at once.
  for (const Case& c : std::vector<Case>{{4097, 1000, 2000}, {4097, 7, 5000}, {5000, 400, 2000}, {9001, 3000, 800}, {100, 10, 5000}}) {
    SCOPED_TRACE(absl::StrCat("N ", c.class_count, ", S ", c.sample_count));
    const double n = static_cast<double>(c.class_count);
    EXPECT_NEAR(RateStatistic(c.class_count, Options(Kind::kUniform, c.sample_count), c.class_count, c.steps), n, 5 * std::sqrt(2 * n));
  }
}

TEST(SamplerTest, EveryClassHasRateSOverNOverACycleOfThePool) {
  struct Case {
    int64_t class_count, sample_count, pool_size, rotated_rows, cycles;
  };
  // 6,000 classes: partitions of one and of two. 2,000: of one and of none.
  for (const Case& c : std::vector<Case>{{6000, 100, 1200, 40, 20}, {6000, 1000, 1500, 500, 200}, {2000, 128, 512, 16, 10}}) {
    SCOPED_TRACE(absl::StrCat("N ", c.class_count, ", S ", c.sample_count, ", pool ", c.pool_size));
    const double n = static_cast<double>(c.class_count);
    const int64_t steps = c.cycles * c.class_count / c.rotated_rows;
    EXPECT_NEAR(RateStatistic(c.class_count, Pool(c.sample_count, c.pool_size, c.rotated_rows), c.pool_size, steps), n,
                5 * std::sqrt(2 * n));
  }
}

TEST(SamplerTest, BlocksTakeEveryClassOnceInNOverSSteps) {
  for (const Size& size : std::vector<Size>{{6000, 500}, {2000, 250}, {100'000, 12'500}}) {
    const Partitions partitions(size.class_count, 3);
    for (int64_t first_step : {0, 3, 1000}) {
      std::vector<int> counts(size.class_count, 0);
      for (int64_t step = first_step; step < first_step + size.class_count / size.sample_count; ++step) {
        for (int64_t class_id : DrawStepRows(partitions, Options(Kind::kBlock, size.sample_count), step, 0, 1, {}).class_ids) {
          ++counts[class_id];
        }
      }
      for (int count : counts) ASSERT_EQ(count, 1);
    }
  }
}

TEST(SamplerTest, APoolOfAllClassesDrawsAsUniformDoes) {
  const Partitions partitions(20'011, 3);
  const std::vector<int64_t> labels = Labels(20'011, 50, 1);
  for (int64_t step : {0, 7, 1'000'000}) {
    const StepRows uniform = DrawStepRows(partitions, Options(Kind::kUniform, 3000), step, 0, 1, labels);
    const StepRows pool = DrawStepRows(partitions, Pool(3000, 20'011, 100), step, 0, 1, labels);
    EXPECT_EQ(uniform.class_ids, pool.class_ids);
    EXPECT_EQ(uniform.target_rows, pool.target_rows);
  }
}

TEST(SamplerTest, AStepDrawsFromItsPoolAlone) {
  const Partitions partitions(50'021, 3);
  const SamplerOptions options = Pool(500, 4000, 100);
  const PoolRotation rotation(partitions, options);
  for (int64_t step : {0, 1, 77, 123'456}) {
    const std::vector<PartitionRows> pool = rotation.RowsOf(step);
    for (int64_t class_id : DrawStepRows(partitions, options, step, 0, 1, {}).class_ids) {
      const Partitions::Place place = partitions.Locate(class_id);
      ASSERT_LT(pool[place.partition].NumberOf(place.index), pool[place.partition].count);
    }
  }
}

TEST(SamplerTest, ThePartitionOfTwoAmong4097HasTwiceTheDraws) {
  const Partitions partitions(4097, 3);
  const Partitions::Place second = partitions.Locate(4096);
  ASSERT_EQ(partitions.size(second.partition), 2);
  const SamplerOptions options = Options(Kind::kUniform, 1000);
  constexpr int64_t kSteps = 5000;
  int64_t drawn = 0;
  for (int64_t step = 0; step < kSteps; ++step) drawn += DrawCounts(partitions, options, step, second.partition, second.partition + 1)[0];
  const double rate = 2.0 * 1000 / 4097;
  EXPECT_NEAR(static_cast<double>(drawn), kSteps * rate, 5 * std::sqrt(kSteps * 0.25));
}

TEST(SamplerTest, CountsOfAllPartitionsSumToTheSample) {
  const Partitions partitions(123'457, 3);
  for (int64_t sample_count : {int64_t{0}, int64_t{1}, int64_t{4096}, int64_t{99'999}, int64_t{123'457}}) {
    for (int64_t step = 0; step < 20; ++step) {
      const std::vector<int64_t> counts = DrawCounts(partitions, Options(Kind::kUniform, sample_count), step, 0, 4096);
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), sample_count);
      for (int32_t p = 0; p < 4096; ++p) {
        const double expected = static_cast<double>(sample_count) * partitions.size(p) / 123'457;
        ASSERT_LT(std::abs(counts[p] - expected), 1.0) << "partition " << p;
        ASSERT_LE(counts[p], partitions.size(p));
      }
    }
  }
}

// Two draws among 4,096 partitions: in a fixed order they would always lie half the ring apart.
TEST(SamplerTest, AnyTwoPartitionsMeet) {
  const Partitions partitions(4096, 3);
  const SamplerOptions options = Options(Kind::kUniform, 2);
  constexpr int kSteps = 4000;
  int near = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const std::vector<int64_t> counts = DrawCounts(partitions, options, step, 0, 4096);
    const int64_t a = std::find(counts.begin(), counts.end(), 1) - counts.begin();
    const int64_t b = std::find(counts.begin() + a + 1, counts.end(), 1) - counts.begin();
    ASSERT_LT(b, 4096);
    const int64_t gap = std::min(b - a, 4096 - (b - a));
    if (gap < 1024) ++near;
  }
  EXPECT_NEAR(near, kSteps / 2, 5 * std::sqrt(kSteps / 4.0));
}

TEST(SamplerTest, TheUnionDoesNotDependOnTheNumberOfShards) {
  for (int64_t class_count : {int64_t{3}, int64_t{4097}, int64_t{20'011}}) {
    for (const SamplerOptions& options : AllKinds(class_count)) {
      SCOPED_TRACE(absl::StrCat("kind ", static_cast<int>(options.kind), ", N ", class_count));
      const Partitions partitions(class_count, 3);
      const std::vector<int64_t> labels = Labels(class_count, 50, 1);
      const std::set<int64_t> one = UnionOverShards(partitions, options, 9, 1, labels);
      EXPECT_EQ(one, UnionOverShards(partitions, options, 9, 7, labels));
      EXPECT_EQ(one, UnionOverShards(partitions, options, 9, 2, labels));
    }
  }
}

TEST(SamplerTest, TargetsPointAtTheirRowsOnTheShardThatOwnsThem) {
  const Partitions partitions(20'011, 3);
  const std::vector<int64_t> labels = Labels(20'011, 200, 2);
  for (const SamplerOptions& options : AllKinds(20'011)) {
    const Kind kind = options.kind;
    SCOPED_TRACE(absl::StrCat("kind ", static_cast<int>(kind)));
    const std::set<int64_t> drawn = UnionOverShards(partitions, options, 4, 1, {});
    int with_row = 0;
    for (int shard = 0; shard < 3; ++shard) {
      const StepRows rows = DrawStepRows(partitions, options, 4, shard, 3, labels);
      ASSERT_EQ(rows.target_rows.size(), labels.size());
      for (size_t i = 0; i < labels.size(); ++i) {
        const bool owned = partitions.ShardOfClass(labels[i], 3) == shard;
        const bool expected = owned && (kind != Kind::kAllSample || drawn.count(labels[i]) > 0);
        ASSERT_EQ(rows.target_rows[i] >= 0, expected) << "label " << labels[i];
        if (!expected) continue;
        ++with_row;
        ASSERT_EQ(rows.class_ids[rows.target_rows[i]], labels[i]);
        // Drawn ones keep their drawn place; the others come after all drawn ones.
        ASSERT_EQ(rows.target_rows[i]<rows.drawn_count, drawn.count(labels[i])> 0);
      }
    }
    if (kind == Kind::kAllSample) {
      EXPECT_GT(with_row, 0);
      EXPECT_LT(with_row, 200);
    } else {
      EXPECT_EQ(with_row, 200);
    }
  }
}

TEST(SamplerTest, PositivesComeOnTopWithoutChangingTheDraws) {
  const Partitions partitions(20'011, 3);
  const SamplerOptions options = Options(Kind::kUniform, 3000);
  const StepRows without = DrawStepRows(partitions, options, 4, 0, 1, {});
  const StepRows with = DrawStepRows(partitions, options, 4, 0, 1, Labels(20'011, 64, 3));
  EXPECT_EQ(with.drawn_count, 3000);
  EXPECT_TRUE(std::equal(without.class_ids.begin(), without.class_ids.end(), with.class_ids.begin()));
  EXPECT_GT(with.class_ids.size(), without.class_ids.size());
}

TEST(SamplerTest, AllTakesEveryClassOfTheShard) {
  const Partitions partitions(5003, 3);
  for (int shard = 0; shard < 3; ++shard) {
    const StepRows rows = DrawStepRows(partitions, Options(Kind::kAll, 0), 1, shard, 3, {});
    EXPECT_EQ(static_cast<int64_t>(rows.class_ids.size()), partitions.ShardSize(shard, 3));
    EXPECT_EQ(rows.drawn_count, partitions.ShardSize(shard, 3));
  }
}

TEST(SamplerTest, StepsAndSeedsDrawOtherSamples) {
  const Partitions partitions(1'000'003, 3);
  const std::set<int64_t> base = UnionOverShards(partitions, Options(Kind::kUniform, 1000), 1, 1, {});
  EXPECT_EQ(base, UnionOverShards(partitions, Options(Kind::kUniform, 1000), 1, 1, {}));
  for (const std::set<int64_t>& other : {UnionOverShards(partitions, Options(Kind::kUniform, 1000), 2, 1, {}),
                                         UnionOverShards(partitions, Options(Kind::kUniform, 1000, 2), 1, 1, {})}) {
    std::vector<int64_t> common;
    std::set_intersection(base.begin(), base.end(), other.begin(), other.end(), std::back_inserter(common));
    EXPECT_LT(common.size(), 15u);  // 1 is expected.
  }
}

TEST(SamplerTest, MoreShardsThanPartitionsLeaveSomeEmpty) {
  const Partitions partitions(5003, 3);
  const std::vector<int64_t> labels = Labels(5003, 10, 3);
  EXPECT_EQ(UnionOverShards(partitions, Options(Kind::kUniform, 100), 1, 5000, labels),
            UnionOverShards(partitions, Options(Kind::kUniform, 100), 1, 1, labels));
}

}  // namespace
}  // namespace myriad
