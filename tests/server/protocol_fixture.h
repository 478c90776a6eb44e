#ifndef MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_
#define MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad {

using StepFuture = std::future<absl::StatusOr<v1::HeadStepResponse>>;

inline constexpr int64_t kClasses = 500;
inline constexpr int kDim = 8;

// K shards with one head open for R ranks.
class ProtocolTest : public ::testing::Test {
 protected:
  void Start(int shards, int ranks, const MyriadServer::Options& options = ShardCluster::Defaults()) {
    Start(ranks, std::vector<MyriadServer::Options>(shards, options));
  }
  void Start(int ranks, const std::vector<MyriadServer::Options>& of_shard) {
    cluster_ = std::make_unique<ShardCluster>(of_shard);
    ranks_ = ranks;
    for (int shard = 0; shard < static_cast<int>(of_shard.size()); ++shard) {
      stubs_.push_back(std::make_unique<ShardStubs>(cluster_->addresses()[shard]));
      opens_.push_back(OpenRequest(shard));
      ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
    }
  }
  v1::OpenHeadRequest OpenRequest(int shard) {
    v1::OpenHeadRequest open = MakeOpen("faces", kClasses, kDim, cluster_->addresses(), shard, ranks_);
    open.set_step_deadline_ms(2000);
    open.set_shard_wait_ms(1000);
    return open;
  }
  v1::HeadStepRequest StepOf(int64_t step, int rank) {
    const std::vector<int64_t> labels = {(7 * step + rank) % kClasses, 499 - rank, 499 - rank};
    return MakeStep(opens_[0], step, rank, labels, 100 * step + rank);
  }
  // One rank's step on all shards.
  std::vector<absl::StatusOr<v1::HeadStepResponse>> StepEverywhere(const v1::HeadStepRequest& request) {
    std::vector<StepFuture> calls;
    for (const auto& shard : stubs_) calls.push_back(shard->StepAsync(request));
    std::vector<absl::StatusOr<v1::HeadStepResponse>> results;
    for (StepFuture& call : calls) results.push_back(call.get());
    return results;
  }
  void ExpectCommits(int64_t step) {
    for (const auto& result : StepEverywhere(StepOf(step, 0))) EXPECT_TRUE(result.ok()) << result.status();
  }
  // Everything that a shard keeps of the head.
  std::string Rows(int shard) {
    const auto messages = stubs_[shard]->ReadRows("faces", true);
    EXPECT_TRUE(messages.ok()) << messages.status();
    std::string all;
    for (const v1::ReadRowsResponse& message : *messages) absl::StrAppend(&all, message.SerializeAsString());
    return all;
  }
  std::string AllRows() {
    std::string all;
    for (size_t shard = 0; shard < stubs_.size(); ++shard) absl::StrAppend(&all, Rows(shard));
    return all;
  }

  std::unique_ptr<ShardCluster> cluster_;
  int ranks_ = 1;
  std::vector<std::unique_ptr<ShardStubs>> stubs_;
  std::vector<v1::OpenHeadRequest> opens_;
};

// Compute at the worker, two shards; one rank, unless a test says otherwise.
class WorkerProtocolTest : public ProtocolTest {
 protected:
  template <typename Request, typename Response>
  using Method = grpc::Status (v1::CenterShard::Stub::*)(grpc::ClientContext*, const Request&, Response*);

  void SetUp() override { StartAtWorker(1); }
  void StartAtWorker(int ranks) {
    stubs_.clear();
    opens_.clear();
    ranks_ = ranks;
    cluster_ = std::make_unique<ShardCluster>(2);
    for (int shard = 0; shard < 2; ++shard) {
      stubs_.push_back(std::make_unique<ShardStubs>(cluster_->addresses()[shard]));
      opens_.push_back(OpenRequest(shard));
      opens_[shard].mutable_training()->set_placement(v1::PLACEMENT_WORKER);
      ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
    }
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(int shard, Method<Request, Response> method, const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    Response response;
    const absl::Status status = FromGrpcStatus((stubs_[shard]->centers().*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
  v1::StepKey Key(int64_t step, int attempt) {
    v1::StepKey key;
    key.set_head("faces");
    key.set_incarnation(1);
    key.set_step(step);
    key.set_attempt(attempt);
    return key;
  }
  absl::StatusOr<v1::FetchStepResponse> Fetch(int shard, int64_t step, int attempt = 0, int rank = 0) {
    v1::FetchStepRequest request;
    request.set_rank(rank);
    *request.mutable_key() = Key(step, attempt);
    request.set_labels(PackIds({5, 6}));
    request.mutable_parameters()->set_learning_rate(0.1);
    return Call(shard, &v1::CenterShard::Stub::FetchStep, request);
  }
  // At the reducer of the step, for the two samples of each rank that Fetch() names.
  absl::StatusOr<v1::MergeDenominatorsResponse> Merge(int64_t step, int attempt, int rank = 0) {
    v1::MergeDenominatorsRequest request;
    request.set_rank(rank);
    *request.mutable_key() = Key(step, attempt);
    request.mutable_denominators()->set_max_logit(std::string(2 * ranks_ * sizeof(float), '\0'));
    request.mutable_denominators()->set_sum_exp(std::string(2 * ranks_ * sizeof(double), '\0'));
    return Call(step % 2, &v1::CenterShard::Stub::MergeDenominators, request);
  }
  // The gradients of what was fetched: all `value`.
  v1::ApplyGradientsRequest Gradients(const v1::FetchStepResponse& fetched, int64_t step, int attempt, float value, int rank = 0) {
    v1::ApplyGradientsRequest request;
    request.set_rank(rank);
    *request.mutable_key() = Key(step, attempt);
    request.set_class_ids(fetched.class_ids());
    const int64_t rows = fetched.centers().rows();
    *request.mutable_gradients() = PackMatrix(std::vector<float>(rows * kDim, value), rows, kDim);
    return request;
  }
  std::future<absl::StatusOr<v1::ApplyGradientsResponse>> ApplyAsync(int shard, const v1::ApplyGradientsRequest& request) {
    return std::async(std::launch::async, [this, shard, request] { return Call(shard, &v1::CenterShard::Stub::ApplyGradients, request); });
  }
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_
