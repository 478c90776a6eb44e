#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "head/counter_random.h"
#include "head/partial_denominator.h"
#include "head/pool_rotation.h"
#include "server/step/shard_step_work.h"
#include "server/step/worker_step_work.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/tiered_row_store.h"
#include "tests/testing/server/fake_cold_store.h"
#include "tests/testing/server/fake_timer.h"

namespace myriad {
namespace {

using Kind = SamplerOptions::Kind;

constexpr int64_t kClasses = 1501;
constexpr int kDim = 8;
constexpr int64_t kBatch = 6;
constexpr int kSteps = 20;

// What a run is told of the labels to come.
enum class Hints { kNone, kRight, kWrong };

struct Outcome {
  std::vector<float> numbers;  // All that the ranks get, then all rows with their slots.
  RowStoreStatistics statistics;
};

HeadSpec Head() {
  HeadSpec head;
  head.name = "h";
  head.class_count = kClasses;
  head.embedding_dim = kDim;
  return head;
}

std::vector<int64_t> LabelsOf(int64_t step) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < kBatch; ++i) labels.push_back(static_cast<int64_t>(UniformBelow(Mix64(step * kBatch + i), kClasses)));
  return labels;
}

ComingLabels HintsAt(Hints hints, int64_t step) {
  if (hints == Hints::kNone) return {};
  if (hints == Hints::kRight) return {LabelsOf(step + 1), LabelsOf(step + 2)};
  return {{-7, kClasses, int64_t{1} << 60, 5, 5, 6}, LabelsOf(step + 400), {}, std::vector<int64_t>(3000, 9), LabelsOf(step)};
}

at::Tensor EmbeddingsOf(int64_t step) {
  at::Tensor x = at::empty({kBatch, kDim}, at::kFloat);
  for (int64_t i = 0; i < x.numel(); ++i) x.mutable_data_ptr<float>()[i] = std::sin(static_cast<float>(step * 100 + i));
  return x;
}

void Append(const at::Tensor& tensor, std::vector<float>* numbers) {
  const at::Tensor dense = tensor.contiguous();
  numbers->insert(numbers->end(), dense.const_data_ptr<float>(), dense.const_data_ptr<float>() + dense.numel());
}

// A run of one rank on one shard whose rows are all on disk, less than a third of them in memory at a time.
class DiskRun {
 public:
  DiskRun(Kind kind, Placement placement) {
    at::set_num_threads(1);  // So few rows are not worth a second one.
    options_.head = Head();
    options_.training.sampler.kind = kind;
    options_.training.sampler.sample_count = 60;
    options_.training.sampler.pool_size = 200;
    options_.training.sampler.rotated_rows = 15;
    options_.training.placement = placement;
    options_.positives = std::make_shared<PositiveWatch>(kClasses);
    TieredRowStore::Options store;
    store.head = Head();
    store.queue_records = 200;
    store.memory_bytes = 48 << 10;
    const Partitions partitions(kClasses, 0);
    store_ = std::make_shared<TieredRowStore>(store, disk_.Open(), std::make_unique<PresenceBitmap>(partitions, 0, 1));
    for (int64_t begin = 0; begin < kClasses; begin += 100) {
      std::vector<int64_t> ids(std::min<int64_t>(100, kClasses - begin));
      std::iota(ids.begin(), ids.end(), begin);
      std::vector<float> weights(ids.size() * kDim);
      for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::cos(static_cast<float>(begin * kDim + i));
      EXPECT_EQ(store_->Write(ids, weights.data(), nullptr), absl::OkStatus());
    }
    EXPECT_EQ(store_->Flush(), absl::OkStatus());
    EXPECT_LT(store_->slab_limit_rows(), kClasses / 3);
    EXPECT_GT(store_->slab_limit_rows(), 350);
    if (placement == Placement::kShard) {
      work_ = std::make_unique<ShardStepWork>(options_, /*evaluate=*/false, store_, &timer_);
    } else {
      work_ = std::make_unique<WorkerStepWork>(options_, store_);
    }
  }

  Outcome Take(Hints hints) {
    Outcome outcome;
    for (int64_t step = 0; step < kSteps; ++step) {
      const ComingLabels coming = HintsAt(hints, step);
      options_.training.placement == Placement::kShard ? StepAtShard(step, coming, &outcome.numbers)
                                                       : StepAtWorker(step, coming, &outcome.numbers);
    }
    std::vector<int64_t> ids(kClasses);
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<float> rows(kClasses * kDim * 2);
    EXPECT_EQ(store_->Read(ids, rows.data(), rows.data() + kClasses * kDim, nullptr, nullptr), absl::OkStatus());
    outcome.numbers.insert(outcome.numbers.end(), rows.begin(), rows.end());
    outcome.statistics = store_->statistics();
    return outcome;
  }

 private:
  std::vector<RankReply> Phase(int64_t step, int phase, int phase_count, RankPart part, StepWork::Share* share,
                               const std::function<std::shared_ptr<const MergedDenominators>()>& merged) {
    const absl::StatusOr<StepWork::Share> computed = work_->Compute({step, phase, phase_count, 0.1, {&part}});
    EXPECT_EQ(computed.status(), absl::OkStatus());
    if (!computed.ok()) return {};
    *share = *computed;
    absl::StatusOr<std::vector<RankReply>> replies = work_->Reply(merged(), 0);
    EXPECT_EQ(replies.status(), absl::OkStatus());
    EXPECT_EQ(work_->Settle(phase + 1 == phase_count), absl::OkStatus());
    return replies.ok() ? *std::move(replies) : std::vector<RankReply>();
  }

  void StepAtShard(int64_t step, const ComingLabels& coming, std::vector<float>* numbers) {
    StepWork::Share share;
    const std::vector<RankReply> replies = Phase(step, 0, 1, HeadStepPart{EmbeddingsOf(step), LabelsOf(step), {}, coming}, &share, [&] {
      return std::make_shared<const MergedDenominators>(*MergeShares({share.denominators}, kBatch));
    });
    ASSERT_EQ(replies.size(), 1u);
    Append(std::get<HeadStepReply>(replies[0]).embedding_gradients, numbers);
  }

  // The gradients are made up: they follow from the centers.
  void StepAtWorker(int64_t step, const ComingLabels& coming, std::vector<float>* numbers) {
    const auto nothing = [] { return std::shared_ptr<const MergedDenominators>(); };
    StepWork::Share share;
    std::vector<RankReply> replies = Phase(step, 0, 3, FetchPart{LabelsOf(step), coming}, &share, nothing);
    ASSERT_EQ(replies.size(), 1u);
    const FetchReply fetched = std::get<FetchReply>(replies[0]);
    Append(fetched.centers, numbers);
    Denominators denominators;
    denominators.max_logit.assign(kBatch, 1.0f);
    denominators.sum_exp.assign(kBatch, 2.0);
    ASSERT_EQ(Phase(step, 1, 3, MergePart{denominators}, &share, nothing).size(), 1u);
    ASSERT_EQ(Phase(step, 2, 3, ApplyPart{fetched.class_ids, at::add(at::mul(fetched.centers, 0.25), 0.5)}, &share, nothing).size(), 1u);
  }

  FakeDisk disk_{RowCodec(Head()).record_bytes()};
  FakeTimer timer_;
  StepWorkOptions options_;
  std::shared_ptr<TieredRowStore> store_;
  std::unique_ptr<StepWork> work_;
};

class HintsTest : public ::testing::TestWithParam<std::pair<Kind, Placement>> {};

INSTANTIATE_TEST_SUITE_P(Samplers, HintsTest,
                         ::testing::Values(std::make_pair(Kind::kUniform, Placement::kShard),
                                           std::make_pair(Kind::kPool, Placement::kShard), std::make_pair(Kind::kBlock, Placement::kShard),
                                           std::make_pair(Kind::kUniform, Placement::kWorker),
                                           std::make_pair(Kind::kPool, Placement::kWorker)));

TEST_P(HintsTest, ARunWithHintsRightOrWrongIsTheRunWithoutThemBitForBit) {
  const auto [kind, placement] = GetParam();
  const Outcome without = DiskRun(kind, placement).Take(Hints::kNone);
  const Outcome right = DiskRun(kind, placement).Take(Hints::kRight);
  const Outcome wrong = DiskRun(kind, placement).Take(Hints::kWrong);
  EXPECT_EQ(without.numbers, right.numbers);
  EXPECT_EQ(without.numbers, wrong.numbers);
  EXPECT_EQ(without.statistics.announced, 0);
  EXPECT_GT(right.statistics.announced, 0);
  EXPECT_GT(wrong.statistics.announced, 0);
  const bool has_pool = HasPool(kind);
  EXPECT_EQ(right.statistics.kept > 0, has_pool);
  EXPECT_EQ(without.statistics.kept > 0, has_pool);
}

// A step finds in memory, or on its way there, what was told in time; without hints the disk is what it waits for.
TEST_P(HintsTest, RightHintsSpareTheStepsTheirReads) {
  const auto [kind, placement] = GetParam();
  const RowStoreStatistics without = DiskRun(kind, placement).Take(Hints::kNone).statistics;
  const RowStoreStatistics right = DiskRun(kind, placement).Take(Hints::kRight).statistics;
  EXPECT_LT(4 * right.misses, without.misses + 4 * (60 + kBatch)) << "beside those of the first step";
}

}  // namespace
}  // namespace myriad
