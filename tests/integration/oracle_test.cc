// Training through the shipped path, client and shards over gRPC, against a float64 oracle that holds all of W in one process.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "head/virtual_rows.h"
#include "tests/integration/oracle_trace.h"
#include "tests/testing/client/rank_threads.h"
#include "tests/testing/server/shard_cluster.h"

namespace myriad::testing {
namespace {

MarginOptions CosFace() { return {MarginOptions::Kind::kCosFace, 0.35, 32.0}; }
MarginOptions ArcFace() { return {MarginOptions::Kind::kArcFace, 0.5, 32.0}; }

// N is a prime larger than the number of partitions where D is small, and a smaller prime where the oracle would take long.
OracleRun MakeRun(int dim, const MarginOptions& margin, SamplerOptions::Kind sampler, Placement placement, int rank_count) {
  OracleRun run;
  run.head.name = absl::StrCat("d", dim, "-", static_cast<int>(margin.kind), "-", static_cast<int>(sampler), "-r", rank_count);
  run.head.class_count = dim == 7 ? 4099 : 1013;
  run.head.embedding_dim = dim;
  run.head.seed = 17;
  run.training.margin = margin;
  run.training.sampler.kind = sampler;
  run.training.sampler.sample_count = dim == 7 ? 500 : 97;
  run.training.sampler.pool_size = dim == 7 ? 1500 : 400;
  run.training.sampler.rotated_rows = 200;
  run.training.sampler.seed = 23;
  run.training.placement = placement;
  // Uneven, one of them empty; which rank has which rotates.
  run.batch_sizes = rank_count == 1 ? std::vector<int64_t>{13} : std::vector<int64_t>{11, 0, 5};
  run.restart_each_step = dim == 7;
  return run;
}

HeadClient::Options ClientOptions(const OracleRun& run, const ShardCluster& cluster) {
  HeadClient::Options options;
  options.head = run.head;
  options.training = run.training;
  options.shard_addresses = cluster.addresses();
  return options;
}

std::unique_ptr<RankThreads> OpenRanks(const OracleRun& run, const ShardCluster& cluster) {
  auto ranks = RankThreads::Open(ClientOptions(run, cluster), static_cast<int>(run.batch_sizes.size()));
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  return ranks.ok() ? *std::move(ranks) : nullptr;
}

struct ClusterCase {
  Placement placement;
  int shard_count;
  int rank_count;
};

std::string CaseName(const ::testing::TestParamInfo<ClusterCase>& info) {
  return absl::StrCat(info.param.placement == Placement::kShard ? "AtShard" : "AtWorker", "K", info.param.shard_count, "R",
                      info.param.rank_count);
}

std::vector<ClusterCase> AllCases() {
  std::vector<ClusterCase> cases;
  for (Placement placement : {Placement::kShard, Placement::kWorker}) {
    for (int shard_count : {1, 2, 3, 7}) {
      for (int rank_count : {1, 3}) cases.push_back({placement, shard_count, rank_count});
    }
  }
  return cases;
}

class OracleTest : public ::testing::TestWithParam<ClusterCase> {
 protected:
  void ExpectEqualsOracle(int dim, const MarginOptions& margin, SamplerOptions::Kind sampler) {
    const OracleRun run = MakeRun(dim, margin, sampler, GetParam().placement, GetParam().rank_count);
    SCOPED_TRACE(run.head.name);
    const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
    ASSERT_NE(ranks, nullptr);
    ExpectRunEqualsOracle(run, ranks.get());
  }

  ShardCluster cluster_{GetParam().shard_count};
};

INSTANTIATE_TEST_SUITE_P(Clusters, OracleTest, ::testing::ValuesIn(AllCases()), CaseName);

TEST_P(OracleTest, TenStepsOverAllClasses) {
  for (int dim : {7, 512}) {
    for (const MarginOptions& margin : {CosFace(), ArcFace()}) ExpectEqualsOracle(dim, margin, SamplerOptions::Kind::kAll);
  }
}

TEST_P(OracleTest, TenStepsOverASampleAndThePositives) {
  for (int dim : {7, 512}) {
    for (const MarginOptions& margin : {CosFace(), ArcFace()}) ExpectEqualsOracle(dim, margin, SamplerOptions::Kind::kUniform);
  }
}

TEST_P(OracleTest, TenStepsOverARotatingPoolAndThePositives) {
  ExpectEqualsOracle(7, CosFace(), SamplerOptions::Kind::kPool);
  ExpectEqualsOracle(7, ArcFace(), SamplerOptions::Kind::kBlock);
}

TEST_P(OracleTest, TenStepsWherePositivesMayBeMissing) { ExpectEqualsOracle(7, CosFace(), SamplerOptions::Kind::kAllSample); }

TEST_P(OracleTest, TenStepsOverThePositivesAlone) { ExpectEqualsOracle(512, ArcFace(), SamplerOptions::Kind::kPositivesOnly); }

TEST_P(OracleTest, DecoupledDecayAndTheHeadsOwnRate) {
  OracleRun run = MakeRun(512, CosFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
  run.training.optimizer = {OptimizerKind::kSgd, /*momentum=*/0.8, /*weight_decay=*/0.01, /*decoupled_weight_decay=*/true,
                            /*rate_scale=*/2.5};
  const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
  ASSERT_NE(ranks, nullptr);
  ExpectRunEqualsOracle(run, ranks.get());
}

// Enough decay for idle rows to move as far as the others.
TEST_P(OracleTest, IdleRowsAsInSgdOverAllOfW) {
  for (const bool decoupled : {false, true}) {
    OracleRun run = MakeRun(128, CosFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
    absl::StrAppend(&run.head.name, decoupled ? "-decoupled" : "-coupled");
    run.training.optimizer.weight_decay = 0.05;
    run.training.optimizer.decoupled_weight_decay = decoupled;
    run.training.optimizer.idle_update = IdleUpdate::kExact;
    const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
    ASSERT_NE(ranks, nullptr);
    ExpectRunEqualsOracle(run, ranks.get());
  }
}

// With a small epsilon these divide gradients by their own size, and make a step of what is only rounding in a gradient near 0.
TEST_P(OracleTest, AdamWAndAdagrad) {
  for (OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kAdagrad}) {
    OracleRun run = MakeRun(128, ArcFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
    absl::StrAppend(&run.head.name, "-o", static_cast<int>(kind));
    run.head.slots = kind;
    run.training.optimizer.kind = kind;
    run.training.optimizer.epsilon = 0.1;
    run.training.optimizer.weight_decay = 0.01;
    run.training.optimizer.rate_scale = 0.1;
    const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
    ASSERT_NE(ranks, nullptr);
    ExpectRunEqualsOracle(run, ranks.get());
  }
}

TEST_P(OracleTest, AStepWithoutASampleCommitsWithLossZero) {
  OracleRun run = MakeRun(7, CosFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
  run.batch_sizes.assign(GetParam().rank_count, 0);
  const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
  ASSERT_NE(ranks, nullptr);
  for (int64_t step = 0; step < 2; ++step) {
    for (const auto& result : ranks->Step(step, 0.1, MakeBatch(run, step))) {
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->loss, 0.0);
      EXPECT_EQ(result->sample_count, 0);
      EXPECT_EQ(result->embedding_gradients.size(0), 0);
      EXPECT_EQ(result->row_count, run.training.sampler.sample_count);
    }
  }
}

TEST_P(OracleTest, EvaluationMovesNothingAndIsNotCounted) {
  OracleRun run = MakeRun(512, CosFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
  run.steps = 2;
  const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
  ASSERT_NE(ranks, nullptr);
  const RankThreads::Batch batch = MakeBatch(run, 0);
  const at::Tensor x = batch.all_embeddings().contiguous();
  const std::vector<int64_t> labels = batch.all_labels();
  TrainingOracle oracle(run.head.embedding_dim, run.training.margin, run.training.optimizer,
                        [&run](int64_t class_id, float* weights) { FillVirtualRow(run.head, class_id, weights); });
  const TrainingOracle::Result expected =
      oracle.Evaluate(RowsOfStep(run, 0, labels), absl::MakeConstSpan(x.const_data_ptr<float>(), x.numel()), labels);
  for (const auto& result : ranks->Step(0, 0.1, batch, /*evaluate=*/true)) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_NEAR(result->loss, expected.loss, 1e-6 * expected.loss);
  }
  // Again with other data: evaluations do not stand in each other's way.
  for (const auto& result : ranks->Step(0, 0.1, MakeBatch(run, 5), /*evaluate=*/true)) EXPECT_TRUE(result.ok()) << result.status();
  const auto rows = ranks->ReadRows();
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_TRUE(rows->empty()) << rows->size() << " rows exist after evaluations alone";
  ExpectRunEqualsOracle(run, ranks.get());  // From step 0 on.
}

TEST_P(OracleTest, ARunRepeatsBitForBit) {
  std::vector<std::map<int64_t, RankThreads::Row>> rows_of_runs;
  std::vector<std::vector<double>> losses_of_runs;
  for (int repeat = 0; repeat < 2; ++repeat) {
    const ShardCluster cluster(GetParam().shard_count);
    const OracleRun run = MakeRun(512, ArcFace(), SamplerOptions::Kind::kUniform, GetParam().placement, GetParam().rank_count);
    const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster);
    ASSERT_NE(ranks, nullptr);
    std::vector<double> losses;
    for (int64_t step = 0; step < 5; ++step) {
      for (const auto& result : ranks->Step(step, 0.1, MakeBatch(run, step))) {
        ASSERT_TRUE(result.ok()) << result.status();
        losses.push_back(result->loss);
      }
    }
    auto rows = ranks->ReadRows();
    ASSERT_TRUE(rows.ok()) << rows.status();
    rows_of_runs.push_back(*std::move(rows));
    losses_of_runs.push_back(losses);
  }
  EXPECT_EQ(losses_of_runs[0], losses_of_runs[1]);
  ASSERT_EQ(rows_of_runs[0].size(), rows_of_runs[1].size());
  for (const auto& [id, row] : rows_of_runs[0]) {
    const auto other = rows_of_runs[1].find(id);
    ASSERT_NE(other, rows_of_runs[1].end());
    ASSERT_EQ(std::memcmp(row.weights.data(), other->second.weights.data(), row.weights.size() * sizeof(float)), 0) << "class " << id;
    ASSERT_EQ(std::memcmp(row.slots.data(), other->second.slots.data(), row.slots.size() * sizeof(float)), 0) << "class " << id;
  }
}

TEST_P(OracleTest, RowsThatWereWrittenAreWhatAStepUses) {
  OracleRun run = MakeRun(512, CosFace(), SamplerOptions::Kind::kAll, GetParam().placement, GetParam().rank_count);
  run.head.class_count = 101;
  const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster_);
  ASSERT_NE(ranks, nullptr);
  const RankThreads::Batch batch = MakeBatch(run, 0);
  const at::Tensor x = batch.all_embeddings().contiguous();
  const std::vector<int64_t> labels = batch.all_labels();
  const int dim = run.head.embedding_dim;
  std::vector<int64_t> class_ids(run.head.class_count);
  for (int64_t i = 0; i < run.head.class_count; ++i) class_ids[i] = run.head.class_count - 1 - i;
  const at::Tensor weights = at::sin(at::arange(run.head.class_count * dim, at::kFloat)).view({-1, dim}).contiguous();
  const at::Tensor slots = at::cos(at::arange(run.head.class_count * dim, at::kFloat)).view({-1, dim}).contiguous();
  ASSERT_EQ(ranks->client(0).WriteRows(class_ids, weights, slots), absl::OkStatus());
  TrainingOracle oracle(dim, run.training.margin, run.training.optimizer, [](int64_t, float*) { FAIL() << "a row was not written"; });
  for (int64_t i = 0; i < run.head.class_count; ++i) {
    oracle.SetRow(class_ids[i], absl::MakeConstSpan(weights.const_data_ptr<float>() + i * dim, dim),
                  absl::MakeConstSpan(slots.const_data_ptr<float>() + i * dim, dim));
  }
  const TrainingOracle::Result expected = oracle.Step(class_ids, absl::MakeConstSpan(x.const_data_ptr<float>(), x.numel()), labels, 0.1);
  for (const auto& result : ranks->Step(0, 0.1, batch)) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_NEAR(result->loss, expected.loss, 1e-6 * expected.loss);
  }
  std::vector<bool> exists;
  const auto centers = ranks->client(0).FetchCenters(class_ids, &exists);
  ASSERT_TRUE(centers.ok()) << centers.status();
  for (int64_t i = 0; i < run.head.class_count; ++i) {
    EXPECT_TRUE(exists[i]);
    const std::vector<double>& expected_row = oracle.RowOf(class_ids[i]).weights;
    for (int d = 0; d < dim; ++d) ASSERT_NEAR((*centers)[i].const_data_ptr<float>()[d], expected_row[d], 1e-5) << "class " << class_ids[i];
  }
}

// Gradient accumulation: three chunks of each rank's batch are one step of all of them.
TEST(ChunksTest, AStepInChunksEqualsTheStepInOne) {
  constexpr int kChunks = 3;
  for (int shard_count : {1, 3}) {
    for (int rank_count : {1, 3}) {
      SCOPED_TRACE(absl::StrCat("K = ", shard_count, ", R = ", rank_count));
      const ShardCluster cluster(shard_count);
      const OracleRun run = MakeRun(512, ArcFace(), SamplerOptions::Kind::kUniform, Placement::kShard, rank_count);
      const std::unique_ptr<RankThreads> ranks = OpenRanks(run, cluster);
      ASSERT_NE(ranks, nullptr);
      TrainingOracle oracle(run.head.embedding_dim, run.training.margin, run.training.optimizer,
                            [&run](int64_t class_id, float* weights) { FillVirtualRow(run.head, class_id, weights); });
      for (int64_t step = 0; step < 3; ++step) {
        std::vector<RankThreads::Batch> chunks;
        std::vector<at::Tensor> all_embeddings;
        std::vector<int64_t> all_labels;
        std::vector<std::vector<int64_t>> labels_of_rank(rank_count);
        for (int c = 0; c < kChunks; ++c) {
          chunks.push_back(MakeBatch(run, step * kChunks + c));
          all_embeddings.push_back(chunks[c].all_embeddings());
          const std::vector<int64_t> labels = chunks[c].all_labels();
          all_labels.insert(all_labels.end(), labels.begin(), labels.end());
          for (int r = 0; r < rank_count; ++r) {
            labels_of_rank[r].insert(labels_of_rank[r].end(), chunks[c].labels[r].begin(), chunks[c].labels[r].end());
          }
        }
        const at::Tensor x = at::cat(all_embeddings).contiguous();
        const TrainingOracle::Result expected =
            oracle.Step(RowsOfStep(run, step, all_labels), absl::MakeConstSpan(x.const_data_ptr<float>(), x.numel()), all_labels, 0.1);
        double largest = 0.0;
        for (double g : expected.embedding_gradients) largest = std::max(largest, std::abs(g));

        double loss = 0.0;
        int64_t first = 0;  // Element of the oracle's dX: samples lie by chunk, then rank.
        for (int c = 0; c < kChunks; ++c) {
          std::vector<absl::StatusOr<StepResult>> results(rank_count, absl::UnknownError("not run"));
          ranks->ForAll([&](int r) {
            StepInput input;
            input.step = step;
            input.chunk = c;
            input.chunk_count = kChunks;
            input.learning_rate = 0.1;
            input.embeddings = chunks[c].embeddings[r];
            input.labels = chunks[c].labels[r];
            if (c == 0) input.step_labels = labels_of_rank[r];
            results[r] = ranks->client(r).Step(input);
          });
          for (int r = 0; r < rank_count; ++r) {
            ASSERT_TRUE(results[r].ok()) << results[r].status();
            const at::Tensor actual = results[r]->embedding_gradients.contiguous();
            for (int64_t i = 0; i < actual.numel(); ++i, ++first) {
              ASSERT_NEAR(actual.const_data_ptr<float>()[i], expected.embedding_gradients[first], 1e-5 * largest);
            }
          }
          loss += results[0]->loss;
        }
        EXPECT_NEAR(loss, expected.loss, 1e-6 * expected.loss);
        const auto rows = ranks->ReadRows();
        ASSERT_TRUE(rows.ok()) << rows.status();
        ASSERT_EQ(rows->size(), oracle.row_count());
        for (const auto& [id, row] : *rows) {
          const std::vector<double>& expected_row = oracle.RowOf(id).weights;
          for (int d = 0; d < run.head.embedding_dim; ++d) ASSERT_NEAR(row.weights[d], expected_row[d], 1e-6) << "class " << id;
        }
      }
    }
  }
}

// Sixteen bits on the wire cost precision of embeddings and their gradients, nothing else.
TEST(WireDtypeTest, SixteenBitEmbeddingsTrainCloseToTheOracle) {
  const ShardCluster cluster(2);
  OracleRun run = MakeRun(512, CosFace(), SamplerOptions::Kind::kUniform, Placement::kShard, 1);
  for (DataType dtype : {DataType::kBFloat16, DataType::kFloat16}) {
    run.head.name = dtype == DataType::kBFloat16 ? "bf16" : "fp16";
    HeadClient::Options options = ClientOptions(run, cluster);
    options.wire_dtype = dtype;
    auto ranks = RankThreads::Open(options, 1);
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    TrainingOracle oracle(run.head.embedding_dim, run.training.margin, run.training.optimizer,
                          [&run](int64_t class_id, float* weights) { FillVirtualRow(run.head, class_id, weights); });
    const RankThreads::Batch batch = MakeBatch(run, 0);
    const at::Tensor& x = batch.embeddings[0];
    const TrainingOracle::Result expected =
        oracle.Step(RowsOfStep(run, 0, batch.labels[0]), absl::MakeConstSpan(x.const_data_ptr<float>(), x.numel()), batch.labels[0], 0.1);
    const auto results = (*ranks)->Step(0, 0.1, batch);
    ASSERT_TRUE(results[0].ok()) << results[0].status();
    const double tolerance = dtype == DataType::kBFloat16 ? 2e-2 : 3e-3;
    EXPECT_NEAR(results[0]->loss, expected.loss, tolerance * expected.loss);
    double largest = 0.0;
    for (double g : expected.embedding_gradients) largest = std::max(largest, std::abs(g));
    const at::Tensor actual = results[0]->embedding_gradients.contiguous();
    for (int64_t i = 0; i < actual.numel(); ++i) {
      ASSERT_NEAR(actual.const_data_ptr<float>()[i], expected.embedding_gradients[i], tolerance * largest) << "element " << i;
    }
  }
}

}  // namespace
}  // namespace myriad::testing
