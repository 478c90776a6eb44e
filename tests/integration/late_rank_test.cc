// A rank that comes late to a chunk, through the shipped client and real shards.
#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "tests/testing/client/rank_threads.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad::testing {
namespace {

constexpr int kDim = 16, kRanks = 2, kChunks = 3;

// Comes back once the shard has given up an attempt at a step of the head.
void WaitForAbort(const std::string& address, const std::string& head) {
  ShardStubs shard(address);
  while (true) {
    grpc::ClientContext context;
    v1::GetStatisticsResponse statistics;
    ASSERT_TRUE(shard.admin().GetStatistics(&context, {}, &statistics).ok());
    for (const v1::HeadStatistics& of_head : statistics.heads()) {
      if (of_head.head() == head && of_head.aborted_attempts() > 0) return;
    }
  }
}

// What two steps in chunks leave behind: dX of each rank and chunk, and the rows.
struct Outcome {
  std::vector<at::Tensor> gradients;
  std::map<int64_t, RankThreads::Row> rows;
};

// Trains `head`; before chunk `late_chunk` of step 1 rank 1 waits until the shards have given it up. -1: never.
Outcome Train(const ShardCluster& cluster, const std::string& head, int late_chunk) {
  Outcome outcome;
  HeadClient::Options options;
  options.head.name = head;
  options.head.class_count = 501;
  options.head.embedding_dim = kDim;
  options.training.sampler.sample_count = 50;
  options.shard_addresses = cluster.addresses();
  options.step_deadline = absl::Seconds(2);
  auto ranks = RankThreads::Open(options, kRanks);
  EXPECT_TRUE(ranks.ok()) << ranks.status();
  if (!ranks.ok()) return outcome;
  outcome.gradients.resize(2 * kChunks * kRanks);
  (*ranks)->ForAll([&](int rank) {
    for (int64_t step = 0; step < 2; ++step) {
      std::vector<int64_t> labels;
      for (int64_t i = 0; i < 2 * kChunks; ++i) labels.push_back((100 * step + 17 * rank + 7 * i) % 501);
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        if (step == 1 && rank == 1 && chunk == late_chunk) WaitForAbort(cluster.addresses()[0], head);
        StepInput input;
        input.step = step;
        input.chunk = chunk;
        input.chunk_count = kChunks;
        input.learning_rate = 0.1;
        input.embeddings = at::sin(at::arange(2 * kDim, at::kFloat) * static_cast<float>(1 + step + 2 * rank + 5 * chunk)).view({2, kDim});
        input.labels = absl::MakeConstSpan(labels).subspan(2 * chunk, 2);
        if (chunk == 0) input.step_labels = labels;
        const auto result = (*ranks)->client(rank).Step(input);
        ASSERT_TRUE(result.ok()) << "step " << step << " chunk " << chunk << " rank " << rank << ": " << result.status();
        outcome.gradients[(step * kChunks + chunk) * kRanks + rank] = result->embedding_gradients;
      }
    }
  });
  auto rows = (*ranks)->ReadRows();
  EXPECT_TRUE(rows.ok()) << rows.status();
  if (rows.ok()) outcome.rows = *std::move(rows);
  return outcome;
}

// The attempt ends for all ranks in a later chunk, is begun again, and leaves no trace: same dX, same rows, bit for bit.
TEST(LateRankTest, AStepInChunksOutlivesAnAbortInALaterChunk) {
  const ShardCluster cluster(2);
  const Outcome calm = Train(cluster, "calm", -1);
  ASSERT_FALSE(calm.rows.empty());
  for (int late_chunk = 0; late_chunk < kChunks; ++late_chunk) {
    SCOPED_TRACE(absl::StrCat("rank 1 comes late to chunk ", late_chunk));
    const Outcome late = Train(cluster, absl::StrCat("late", late_chunk), late_chunk);
    ASSERT_EQ(late.gradients.size(), calm.gradients.size());
    for (size_t i = 0; i < calm.gradients.size(); ++i) {
      ASSERT_TRUE(late.gradients[i].defined());
      EXPECT_TRUE(at::equal(late.gradients[i], calm.gradients[i])) << "reply " << i;
    }
    ASSERT_EQ(late.rows.size(), calm.rows.size());
    for (const auto& [class_id, row] : calm.rows) {
      EXPECT_EQ(late.rows.at(class_id).weights, row.weights) << "class " << class_id;
      EXPECT_EQ(late.rows.at(class_id).slots, row.slots) << "class " << class_id;
    }
  }
}

}  // namespace
}  // namespace myriad::testing
