#include "tests/integration/oracle_trace.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "head/partitions.h"
#include "head/sampler.h"
#include "head/virtual_rows.h"

namespace myriad::testing {
namespace {

constexpr double kLossTolerance = 1e-6;
constexpr double kTensorTolerance = 1e-5;

// Largest |actual - expected|, and the largest |expected|.
struct Difference {
  double largest = 0.0;
  double scale = 0.0;
  void Add(double actual, double expected) {
    const double difference = std::abs(actual - expected);
    // Not std::max: a NaN must win.
    if (!(difference <= largest)) largest = difference;
    scale = std::max(scale, std::abs(expected));
  }
  void Expect(const std::string& what) const { EXPECT_LE(largest, kTensorTolerance * scale) << what << ": largest element " << scale; }
};

}  // namespace

RankThreads::Batch MakeBatch(const OracleRun& run, int64_t step) {
  std::mt19937_64 random(1000003 * step + run.head.seed);
  std::normal_distribution<float> normal;
  const int dim = run.head.embedding_dim;
  const int ranks = static_cast<int>(run.batch_sizes.size());
  RankThreads::Batch batch;
  int64_t last_label = 0;
  for (int r = 0; r < ranks; ++r) {
    const int64_t size = run.batch_sizes[(r + step) % ranks];
    at::Tensor x = at::empty({size, dim});
    std::vector<int64_t> labels(size);
    for (int64_t i = 0; i < size; ++i) {
      // Every fourth sample has the class of the one before it, also across ranks.
      labels[i] = random() % 4 == 0 ? last_label : static_cast<int64_t>(random() % run.head.class_count);
      last_label = labels[i];
      std::vector<float> direction(dim);
      FillVirtualRow(run.head, labels[i], direction.data());
      const float pull = static_cast<float>(random() % 3);  // 0: unrelated to its class.
      for (int d = 0; d < dim; ++d) {
        x.data_ptr<float>()[i * dim + d] = normal(random) + pull * direction[d] / static_cast<float>(run.head.initial_deviation);
      }
    }
    batch.embeddings.push_back(x);
    batch.labels.push_back(labels);
  }
  return batch;
}

std::vector<int64_t> RowsOfStep(const OracleRun& run, int64_t step, const std::vector<int64_t>& labels) {
  const Partitions partitions(run.head.class_count, run.head.seed, run.head.partition_count);
  return DrawStepRows(partitions, run.training.sampler, step, /*shard=*/0, /*shard_count=*/1, labels).class_ids;
}

void ExpectRunEqualsOracle(const OracleRun& run, RankThreads* ranks) {
  const int dim = run.head.embedding_dim;
  const auto make_oracle = [&] {
    auto oracle =
        std::make_unique<TrainingOracle>(dim, run.training.margin, run.training.optimizer,
                                         [&run](int64_t class_id, float* weights) { FillVirtualRow(run.head, class_id, weights); });
    // Where idle rows move, virtual ones do.
    const int64_t moving = run.training.optimizer.idle_update == IdleUpdate::kExact ? run.head.class_count : 0;
    for (int64_t class_id = 0; class_id < moving; ++class_id) oracle->RowOf(class_id);
    return oracle;
  };
  std::unique_ptr<TrainingOracle> oracle = make_oracle();
  std::map<int64_t, int> used;  // Classes that had a row in some step.
  for (int s = 0; s < run.steps; ++s) {
    const int64_t step = ranks->first_step() + s;
    SCOPED_TRACE(absl::StrCat("step ", step));
    const RankThreads::Batch batch = MakeBatch(run, step);
    const at::Tensor x = batch.all_embeddings().contiguous();
    const std::vector<int64_t> labels = batch.all_labels();
    const std::vector<int64_t> class_ids = RowsOfStep(run, step, labels);
    for (int64_t id : class_ids) ++used[id];
    const TrainingOracle::Result expected =
        oracle->Step(class_ids, absl::MakeConstSpan(x.const_data_ptr<float>(), x.numel()), labels, run.learning_rate);

    const std::vector<absl::StatusOr<StepResult>> results = ranks->Step(step, run.learning_rate, batch);
    Difference gradients;
    int64_t first = 0;
    for (int r = 0; r < ranks->rank_count(); ++r) {
      SCOPED_TRACE(absl::StrCat("rank ", r));
      ASSERT_TRUE(results[r].ok()) << results[r].status();
      const StepResult& result = *results[r];
      EXPECT_LE(std::abs(result.loss - expected.loss), kLossTolerance * std::abs(expected.loss)) << result.loss << " vs " << expected.loss;
      EXPECT_EQ(result.sample_count, labels.size());
      EXPECT_EQ(result.target_count, expected.target_count);
      EXPECT_EQ(result.row_count, class_ids.size());
      EXPECT_NEAR(result.target_cosine_sum, expected.target_cosine_sum, 1e-5 * labels.size());
      ASSERT_EQ(result.embedding_gradients.size(0), batch.embeddings[r].size(0));
      ASSERT_EQ(result.embedding_gradients.size(1), dim);
      const at::Tensor actual = result.embedding_gradients.contiguous();
      for (int64_t i = 0; i < actual.numel(); ++i) {
        gradients.Add(actual.const_data_ptr<float>()[i], expected.embedding_gradients[first * dim + i]);
      }
      first += actual.size(0);
    }
    gradients.Expect("dX");

    const auto rows = ranks->ReadRows();
    ASSERT_TRUE(rows.ok()) << rows.status();
    ASSERT_EQ(rows->size(), used.size());
    Difference weights;
    std::vector<Difference> slots((SlotNumbers(run.head) + dim - 1) / dim);  // Numbers of one scale each.
    for (const auto& [id, row] : *rows) {
      ASSERT_EQ(used.count(id), 1u) << "class " << id << " exists but was never used";
      const TrainingOracle::Row& expected_row = oracle->RowOf(id);
      for (int d = 0; d < dim; ++d) {
        weights.Add(row.weights[d], expected_row.weights[d]);
      }
      ASSERT_EQ(row.slots.size(), expected_row.slots.size());
      for (size_t i = 0; i < row.slots.size(); ++i) slots[i / dim].Add(row.slots[i], expected_row.slots[i]);
    }
    weights.Expect("W");
    for (size_t i = 0; i < slots.size(); ++i) slots[i].Expect(absl::StrCat("slot ", i));
    if (run.restart_each_step) {
      oracle = make_oracle();
      for (const auto& [id, row] : *rows) oracle->SetRow(id, row.weights, row.slots);
    }
    if (::testing::Test::HasFailure()) return;  // The steps after it would only repeat it.
  }
}

}  // namespace myriad::testing
