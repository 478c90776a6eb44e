// Steps of several rounds of calls over real sockets: chunks, and compute at the worker.
#include <cstring>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "tests/server/protocol_fixture.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using StepRoundsTest = ProtocolTest;

// Gradient accumulation: the same samples in one chunk or three give the same losses, gradients and rows, to rounding.
TEST_F(StepRoundsTest, AStepInChunksEqualsTheWholeStep) {
  const std::vector<int64_t> labels = {3, 499, 3, 77, 250, 251, 252};
  std::vector<float> whole_gradients, chunk_gradients;
  std::vector<std::vector<float>> weights(2);
  double whole_loss = 0, chunk_loss = 0;
  for (const bool chunked : {false, true}) {
    cluster_.reset();
    stubs_.clear();
    opens_.clear();
    Start(2, 1);
    for (int64_t step = 0; step < 2; ++step) {
      const v1::HeadStepRequest whole = MakeStep(opens_[0], step, 0, labels, 9 + step);
      const std::vector<std::pair<int, int>> parts =
          chunked ? std::vector<std::pair<int, int>>{{0, 2}, {2, 2}, {2, 7}} : std::vector<std::pair<int, int>>{{0, 7}};
      for (size_t chunk = 0; chunk < parts.size(); ++chunk) {
        const auto [begin, end] = parts[chunk];
        v1::HeadStepRequest request = whole;
        if (chunked) {
          request.set_chunk(chunk);
          request.set_chunk_count(parts.size());
          request.set_labels(PackIds(absl::MakeConstSpan(labels).subspan(begin, end - begin)));
          if (chunk == 0) request.set_step_labels(PackIds(labels));
          request.mutable_embeddings()->set_rows(end - begin);
          request.mutable_embeddings()->set_data(whole.embeddings().data().substr(begin * kDim * 4, (end - begin) * kDim * 4));
        }
        const auto results = StepEverywhere(request);
        for (const auto& result : results) ASSERT_TRUE(result.ok()) << result.status();
        (chunked ? chunk_loss : whole_loss) += results[0]->statistics().loss();
        std::vector<float> sum((end - begin) * kDim, 0.0f);
        for (const auto& result : results) {
          const std::string& data = result->embedding_gradients().data();
          ASSERT_EQ(data.size(), sum.size() * sizeof(float));
          for (size_t i = 0; i < sum.size(); ++i) {
            float value;
            std::memcpy(&value, data.data() + 4 * i, sizeof(value));
            sum[i] += value;
          }
        }
        std::vector<float>& gradients = chunked ? chunk_gradients : whole_gradients;
        gradients.insert(gradients.end(), sum.begin(), sum.end());
      }
    }
    for (const auto& shard : stubs_) {
      const auto rows = shard->ReadRows("faces", true);
      ASSERT_TRUE(rows.ok());
      for (const v1::ReadRowsResponse& message : *rows) {
        for (const std::string& data : {message.centers().data(), message.slots().data()}) {
          const size_t old = weights[chunked].size();
          weights[chunked].resize(old + data.size() / 4);
          std::memcpy(weights[chunked].data() + old, data.data(), data.size());
        }
      }
    }
  }
  EXPECT_NEAR(whole_loss, chunk_loss, 1e-6 * whole_loss);
  EXPECT_GT(whole_loss, 1.0);
  EXPECT_THAT(chunk_gradients, ::testing::Pointwise(::testing::FloatNear(1e-6), whole_gradients));
  ASSERT_EQ(weights[0].size(), 2u * kClasses * kDim);
  EXPECT_THAT(weights[1], ::testing::Pointwise(::testing::FloatNear(1e-5), weights[0]));
}

TEST_F(StepRoundsTest, ChunksThatDoNotFitTheStepsLabelsAreRefused) {
  Start(1, 1);
  v1::HeadStepRequest first = MakeStep(opens_[0], 0, 0, {1, 2}, 1);
  first.set_chunk_count(2);
  first.set_step_labels(PackIds({1, 2, 3}));
  ASSERT_TRUE(stubs_[0]->Step(first).ok());
  v1::HeadStepRequest second = MakeStep(opens_[0], 0, 0, {4}, 2);
  second.set_chunk_count(2);
  second.set_chunk(1);
  EXPECT_THAT(std::string(stubs_[0]->Step(second).status().message()), HasSubstr("label 4 of sample 0 of chunk 1 is 3 in step_labels"));
  EXPECT_EQ(Rows(0), "");
  // The next attempt begins at chunk 0.
  first.mutable_key()->set_attempt(1);
  second.mutable_key()->set_attempt(1);
  second.set_labels(PackIds({3}));
  EXPECT_TRUE(stubs_[0]->Step(first).ok());
  EXPECT_TRUE(stubs_[0]->Step(second).ok());
  EXPECT_NE(Rows(0), "");
}

TEST_F(WorkerProtocolTest, FetchAndApplyCommitOnAllShardsAndRepeatsMoveNothing) {
  const auto fetched0 = Fetch(0, 0), fetched1 = Fetch(1, 0), again = Fetch(0, 0);
  ASSERT_TRUE(fetched0.ok() && fetched1.ok() && again.ok());
  EXPECT_EQ(fetched0->SerializeAsString(), again->SerializeAsString());
  EXPECT_EQ(fetched0->centers().rows() + fetched1->centers().rows(), kClasses);
  ASSERT_TRUE(Merge(0, 0).ok());
  auto call0 = ApplyAsync(0, Gradients(*fetched0, 0, 0, 0.5f));
  auto call1 = ApplyAsync(1, Gradients(*fetched1, 0, 0, 0.5f));
  const auto applied0 = call0.get(), applied1 = call1.get();
  ASSERT_TRUE(applied0.ok() && applied1.ok()) << applied0.status() << applied1.status();
  EXPECT_TRUE(applied0->committed());
  const std::string rows = AllRows();
  EXPECT_TRUE(ApplyAsync(0, Gradients(*fetched0, 0, 0, 0.5f)).get().ok());
  EXPECT_EQ(ApplyAsync(0, Gradients(*fetched0, 0, 0, 0.25f)).get().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(AllRows(), rows);
}

TEST_F(WorkerProtocolTest, AGradientThatIsNotFiniteOnOneShardMovesNothingOnAll) {
  const auto fetched0 = Fetch(0, 0), fetched1 = Fetch(1, 0);
  ASSERT_TRUE(fetched0.ok() && fetched1.ok());
  ASSERT_TRUE(Merge(0, 0).ok());
  auto call0 = ApplyAsync(0, Gradients(*fetched0, 0, 0, 0.5f));
  auto call1 = ApplyAsync(1, Gradients(*fetched1, 0, 0, std::numeric_limits<float>::infinity()));
  const absl::Status status0 = call0.get().status(), status1 = call1.get().status();
  EXPECT_EQ(status0.code(), absl::StatusCode::kInvalidArgument) << status0;
  EXPECT_THAT(std::string(status1.message()), HasSubstr("rank 0: the gradient of class"));
  EXPECT_EQ(AllRows(), "");
  // The next attempt fetches again.
  const auto retry0 = Fetch(0, 0, 1), retry1 = Fetch(1, 0, 1);
  ASSERT_TRUE(retry0.ok() && retry1.ok()) << retry0.status() << retry1.status();
  ASSERT_TRUE(Merge(0, 1).ok());
  call0 = ApplyAsync(0, Gradients(*retry0, 0, 1, 0.5f));
  call1 = ApplyAsync(1, Gradients(*retry1, 0, 1, 0.5f));
  EXPECT_TRUE(call0.get().ok());
  EXPECT_TRUE(call1.get().ok());
}

// Rank 1 is there up to some round, then no more: each attempt ends naming it, rows stay, and the step is taken once it is back.
TEST_F(WorkerProtocolTest, ARankThatNeverComesEndsTheAttemptInEveryRound) {
  StartAtWorker(2);
  const auto expect_missing = [](const absl::Status& status) {
    StepAbort abort;
    ASSERT_TRUE(GetStepAbort(status, &abort)) << status;
    EXPECT_THAT(abort.missing_ranks, ::testing::ElementsAre(1)) << status;
  };
  // What rank r got from shard k in this attempt: [2 k + r].
  const auto fetch_all = [&](int attempt) {
    std::vector<std::future<absl::StatusOr<v1::FetchStepResponse>>> calls;
    for (int i = 0; i < 4; ++i) {
      calls.push_back(std::async(std::launch::async, [this, i, attempt] { return Fetch(i / 2, 0, attempt, i % 2); }));
    }
    std::vector<v1::FetchStepResponse> fetched;
    for (auto& call : calls) {
      auto result = call.get();
      EXPECT_TRUE(result.ok()) << result.status();
      fetched.push_back(result.ok() ? *std::move(result) : v1::FetchStepResponse());
    }
    return fetched;
  };
  const auto merge_all = [&](int attempt) {
    auto other = std::async(std::launch::async, [this, attempt] { return Merge(0, attempt, 1).status(); });
    EXPECT_EQ(Merge(0, attempt, 0).status(), absl::OkStatus());
    EXPECT_EQ(other.get(), absl::OkStatus());
  };

  auto alone = std::async(std::launch::async, [this] { return Fetch(1, 0, 0).status(); });
  expect_missing(Fetch(0, 0, 0).status());
  expect_missing(alone.get());

  fetch_all(1);
  expect_missing(Merge(0, 1, 0).status());
  // Shard 1 heard of no merge; that nobody comes to apply ends its wait, or the rows could not be read.
  EXPECT_EQ(AllRows(), "");

  std::vector<v1::FetchStepResponse> fetched = fetch_all(2);
  merge_all(2);
  auto apply0 = ApplyAsync(0, Gradients(fetched[0], 0, 2, 0.5f));
  auto apply1 = ApplyAsync(1, Gradients(fetched[2], 0, 2, 0.5f));
  expect_missing(apply0.get().status());
  expect_missing(apply1.get().status());
  EXPECT_EQ(AllRows(), "");

  fetched = fetch_all(3);
  merge_all(3);
  std::vector<std::future<absl::StatusOr<v1::ApplyGradientsResponse>>> applies;
  for (int i = 0; i < 4; ++i) applies.push_back(ApplyAsync(i / 2, Gradients(fetched[i], 0, 3, 0.5f, i % 2)));
  for (auto& apply : applies) {
    const absl::Status status = apply.get().status();
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_NE(Rows(0), "");
  EXPECT_NE(Rows(1), "");
}

TEST_F(WorkerProtocolTest, CallsOutOfPlaceAreRefused) {
  const auto fetched = Fetch(0, 0);
  ASSERT_TRUE(fetched.ok());
  v1::MergeDenominatorsRequest merge;
  *merge.mutable_key() = Key(0, 0);
  EXPECT_EQ(Call(1, &v1::CenterShard::Stub::MergeDenominators, merge).status().code(), absl::StatusCode::kFailedPrecondition);
  v1::MergeDenominatorsRequest short_merge = merge;  // No sample, where the step has two.
  const absl::Status status = Call(0, &v1::CenterShard::Stub::MergeDenominators, short_merge).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("denominators of 0 samples; the step has 2"));
  v1::ApplyGradientsRequest wrong = Gradients(*fetched, 0, 1, 0.5f);
  EXPECT_FALSE(ApplyAsync(0, wrong).get().ok()) << "attempt 1 was not fetched";
  EXPECT_EQ(stubs_[0]->Step(StepOf(0, 0)).status().code(), absl::StatusCode::kFailedPrecondition) << "the head computes at the worker";
  EXPECT_EQ(AllRows(), "");
}

}  // namespace
}  // namespace myriad
