#include "server/step/look_ahead.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "head/sampler.h"
#include "server/store/presence_bitmap.h"
#include "server/store/tiered_row_store.h"

namespace myriad {
namespace {

constexpr int64_t kClasses = 20'011;
constexpr int kShards = 3;

HeadSpec Head() {
  HeadSpec head;
  head.name = "h";
  head.class_count = kClasses;
  head.embedding_dim = 4;
  head.seed = 5;
  return head;
}

SamplerOptions Sampler(SamplerOptions::Kind kind) {
  SamplerOptions sampler;
  sampler.kind = kind;
  sampler.sample_count = 300;
  sampler.pool_size = 3000;
  sampler.rotated_rows = 100;
  sampler.seed = 8;
  return sampler;
}

// Writes down what it is told.
class ListeningStore : public TieredRowStore {
 public:
  ListeningStore(const Options& options, const Partitions& partitions)
      : TieredRowStore(options, nullptr, std::make_unique<PresenceBitmap>(partitions, options.shard_index, options.shard_count)) {}
  bool TakesHints() const override { return takes_hints; }
  void Announce(absl::Span<const int64_t> class_ids) override {
    if (without_memory) throw std::bad_alloc();
    announced.emplace_back(class_ids.begin(), class_ids.end());
  }
  void KeepPartitions(absl::Span<const int32_t> partitions) override {
    if (without_memory) throw std::bad_alloc();
    kept.emplace_back(partitions.begin(), partitions.end());
  }

  std::vector<std::vector<int64_t>> announced;
  std::vector<std::vector<int32_t>> kept;
  bool without_memory = false;
  bool takes_hints = true;
};

class LookAheadTest : public ::testing::Test {
 protected:
  LookAheadTest() {
    TieredRowStore::Options options;
    options.head = Head();
    options.shard_index = kShard;
    options.shard_count = kShards;
    store_ = std::make_shared<ListeningStore>(options, partitions_);
  }
  LookAhead Make(SamplerOptions::Kind kind) { return LookAhead(partitions_, Sampler(kind), kShard, kShards, store_); }
  bool IsOwn(int64_t class_id) const { return partitions_.ShardOfClass(class_id, kShards) == kShard; }
  std::set<int64_t> RowsAt(SamplerOptions::Kind kind, int64_t step, const std::vector<int64_t>& labels) const {
    const std::vector<int64_t> rows = DrawStepRows(partitions_, Sampler(kind), step, kShard, kShards, labels).class_ids;
    return {rows.begin(), rows.end()};
  }
  // What the store was told of last, each once.
  std::set<int64_t> LastAnnounced() const {
    const std::vector<int64_t>& last = store_->announced.back();
    const std::set<int64_t> classes(last.begin(), last.end());
    EXPECT_EQ(classes.size(), last.size());
    return classes;
  }

  static constexpr int kShard = 1;
  const Partitions partitions_{kClasses, 5};
  std::shared_ptr<ListeningStore> store_;
};

TEST_F(LookAheadTest, TheRowsOfAnnouncedStepsAreThoseThatTheyWillUse) {
  const ComingLabels first_rank = {{1, 2, 3, 4, 5}, {77, 78, 79}};
  const ComingLabels second_rank = {{5, 6, 7}, {}};
  using Kind = SamplerOptions::Kind;
  for (Kind kind : {Kind::kUniform, Kind::kAllSample, Kind::kPositivesOnly}) {
    SCOPED_TRACE(static_cast<int>(kind));
    LookAhead look_ahead = Make(kind);
    for (int64_t step : {40, 41, 42}) {
      look_ahead.Begin(step);
      look_ahead.Take(first_rank);
      look_ahead.Take(second_rank);
      look_ahead.Tell();
      std::set<int64_t> expected = RowsAt(kind, step + 1, {1, 2, 3, 4, 5, 6, 7});
      expected.merge(RowsAt(kind, step + 2, {77, 78, 79}));
      EXPECT_EQ(LastAnnounced(), expected);
    }
  }
}

TEST_F(LookAheadTest, TheNearestStepComesFirst) {
  LookAhead look_ahead = Make(SamplerOptions::Kind::kUniform);
  look_ahead.Begin(7);
  look_ahead.Take({{1, 2, 3}, {4, 5}});
  look_ahead.Tell();
  const std::set<int64_t> nearest = RowsAt(SamplerOptions::Kind::kUniform, 8, {1, 2, 3});
  const std::vector<int64_t>& told = store_->announced.back();
  EXPECT_EQ(std::set<int64_t>(told.begin(), told.begin() + nearest.size()), nearest);
}

// The pool tells for itself; only labels come from outside of it.
TEST_F(LookAheadTest, APoolIsKeptFromTheFirstStepOnAndBeforeItIsDrawnFrom) {
  for (SamplerOptions::Kind kind : {SamplerOptions::Kind::kPool, SamplerOptions::Kind::kBlock}) {
    SCOPED_TRACE(static_cast<int>(kind));
    const PoolRotation rotation(partitions_, Sampler(kind));
    const auto [first, last] = partitions_.ShardRange(kShard, kShards);
    LookAhead look_ahead = Make(kind);
    store_->kept.clear();
    std::vector<int64_t> labels(40);
    std::iota(labels.begin(), labels.end(), 9);
    for (int64_t step : {70, 71, 72}) {
      look_ahead.Begin(step);
      ASSERT_FALSE(store_->kept.empty());
      for (int32_t partition : rotation.ResidentPartitions(step, 2, first, last)) {
        EXPECT_TRUE(std::binary_search(store_->kept.back().begin(), store_->kept.back().end(), partition));
      }
      look_ahead.Take({labels});
      look_ahead.Tell();
      EXPECT_GE(store_->kept.back().front(), first);
      EXPECT_LT(store_->kept.back().back(), last);
      EXPECT_LE(store_->kept.back().size(), rotation.ResidentPartitions(step + 1, 8, first, last).size());
      labels.erase(std::remove_if(labels.begin(), labels.end(), [&](int64_t label) { return !IsOwn(label); }), labels.end());
      EXPECT_EQ(LastAnnounced(), std::set<int64_t>(labels.begin(), labels.end()));
    }
    EXPECT_EQ(store_->kept.size(), 4u);
  }
}

TEST_F(LookAheadTest, ARunWithoutAPoolLetsGoOfTheOneBefore) {
  LookAhead look_ahead = Make(SamplerOptions::Kind::kUniform);
  for (int64_t step : {0, 1}) {
    look_ahead.Begin(step);
    look_ahead.Tell();
  }
  EXPECT_EQ(store_->kept, std::vector<std::vector<int32_t>>{{}});
  EXPECT_TRUE(store_->announced.empty()) << "nobody announced a step";
}

TEST_F(LookAheadTest, AHeadWhoseRowsAreAllInEveryStepIsToldOfNone) {
  LookAhead look_ahead = Make(SamplerOptions::Kind::kAll);
  look_ahead.Begin(0);
  look_ahead.Take({{1, 2, 3, 4, 5, 6}});
  look_ahead.Tell();
  EXPECT_TRUE(store_->announced.empty());
}

TEST_F(LookAheadTest, WhatCannotBeALabelIsNotLookedAt) {
  LookAhead look_ahead = Make(SamplerOptions::Kind::kPositivesOnly);
  look_ahead.Begin(0);
  look_ahead.Take({{-1, kClasses, int64_t{1} << 62, std::numeric_limits<int64_t>::min(), 1, 2, 3, 4, 5, 6}});
  look_ahead.Take(ComingLabels(1000, {7}));
  look_ahead.Tell();
  std::set<int64_t> expected;
  for (int64_t class_id = 1; class_id <= 7; ++class_id) {
    if (IsOwn(class_id)) expected.insert(class_id);
  }
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(LastAnnounced(), expected);
}

TEST_F(LookAheadTest, AStoreWithoutADiskIsToldNothing) {
  store_->takes_hints = false;
  LookAhead look_ahead = Make(SamplerOptions::Kind::kPool);
  look_ahead.Begin(0);
  look_ahead.Take({{1, 2, 3, 4, 5, 6}});
  look_ahead.Tell();
  EXPECT_TRUE(store_->kept.empty());
  EXPECT_TRUE(store_->announced.empty());
}

TEST_F(LookAheadTest, AStoreWithoutMemoryForHintsFailsNoStep) {
  store_->without_memory = true;
  LookAhead look_ahead = Make(SamplerOptions::Kind::kPool);
  look_ahead.Begin(0);
  look_ahead.Take({{1, 2, 3, 4, 5, 6}});
  look_ahead.Tell();
  store_->without_memory = false;
  look_ahead.Begin(1);
  look_ahead.Tell();
  EXPECT_EQ(store_->kept.size(), 1u);
}

}  // namespace
}  // namespace myriad
