// Compute at the worker against scripted shards: what is repeated when a step is aborted, and what is refused.

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "client/head_client.h"
#include "gtest/gtest.h"
#include "head/partial_denominator.h"
#include "proto/wire/coming_labels.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"
#include "tests/testing/client/fake_shard.h"

namespace myriad {
namespace {

using testing::FakeShard;

constexpr int kDim = 4;

// One rank that counts its collectives.
class CountingExchange : public RankExchange {
 public:
  int rank() const override { return 0; }
  int rank_count() const override { return 1; }
  absl::StatusOr<at::Tensor> AllGatherRows(const at::Tensor& rows, absl::Span<const int64_t>) override {
    ++gathers;
    return rows;
  }
  absl::StatusOr<at::Tensor> ReduceScatterRows(const at::Tensor& rows, absl::Span<const int64_t>) override {
    ++scatters;
    return rows;
  }
  int gathers = 0;
  int scatters = 0;
};

// K shards that hand out the classes k and k + K, whose centers point along axis k, and keep what comes back.
class WorkerStepTest : public ::testing::Test {
 protected:
  static constexpr int kShards = 2;

  WorkerStepTest() : fakes_(kShards) {
    for (int k = 0; k < kShards; ++k) {
      fakes_[k].open_head = [](grpc::ServerContext*, const v1::OpenHeadRequest&, v1::OpenHeadResponse*) { return absl::OkStatus(); };
      fakes_[k].fetch_step = [this, k](grpc::ServerContext*, const v1::FetchStepRequest& request, v1::FetchStepResponse* response) {
        if (k == 0) fetch_attempts_.push_back(request.key().attempt());
        EXPECT_EQ(DecodeComingLabels(request.coming_labels()), ComingLabels({{2}, {3, 0}}));
        const std::vector<int64_t> ids = {k, k + kShards};
        at::Tensor centers = at::zeros({2, kDim});
        centers.select(1, k).fill_(1.0);
        response->set_class_ids(EncodeArray<int64_t>(ids));
        EncodeMatrix(centers, DataType::kFloat32, response->mutable_centers());
        response->set_all_labels(request.labels());
        response->add_rank_sizes(static_cast<int32_t>(request.labels().size() / sizeof(int64_t)));
        return absl::OkStatus();
      };
      fakes_[k].merge_denominators = [this](grpc::ServerContext*, const v1::MergeDenominatorsRequest& request,
                                            v1::MergeDenominatorsResponse* response) -> absl::Status {
        merge_attempts_.push_back(request.key().attempt());
        if (request.key().attempt() < first_merged_attempt_)
          return StepAbortedError("rank 1 did not come", {request.key().attempt() + 1, {1}});
        const auto denominators = ParseDenominators(request.denominators(), request.denominators().sum_exp().size() / sizeof(double));
        if (!denominators.ok()) return denominators.status();
        const auto merged = MergeShares({*denominators}, denominators->sum_exp.size());
        if (!merged.ok()) return merged.status();
        *response->mutable_merged() = ToProto(*merged);
        return absl::OkStatus();
      };
      fakes_[k].apply_gradients = [this, k](grpc::ServerContext*, const v1::ApplyGradientsRequest& request,
                                            v1::ApplyGradientsResponse* response) -> absl::Status {
        if (request.key().attempt() < first_committed_attempt_) {
          return StepAbortedError("rank 1 did not come", {request.key().attempt() + 1, {1}});
        }
        applied_[k] = *DecodeArray<int64_t>(request.class_ids(), "");
        gradient_rows_[k] = request.gradients().rows();
        response->set_committed(true);
        response->set_row_count(2);
        return absl::OkStatus();
      };
    }
  }

  absl::StatusOr<StepResult> Step() {
    HeadClient::Options options;
    options.head.name = "faces";
    options.head.class_count = 4;
    options.head.embedding_dim = kDim;
    options.training.placement = Placement::kWorker;
    options.training.sampler.kind = SamplerOptions::Kind::kAll;
    for (const FakeShard& fake : fakes_) options.shard_addresses.push_back(fake.address());
    options.exchange = &exchange_;
    auto client = HeadClient::Create(options);
    if (!client.ok()) return client.status();
    if (const auto opened = (*client)->Open(1); !opened.ok()) return opened.status();
    const std::vector<int64_t> labels = {0, 3, 1};
    StepInput input;
    input.step = 0;
    input.learning_rate = 0.1;
    input.embeddings = at::sin(at::arange(3 * kDim, at::kFloat)).view({3, kDim});
    input.labels = labels;
    const ComingLabels coming = {{2}, {3, 0}};
    input.coming_labels = coming;
    return (*client)->Step(input);
  }

  std::deque<FakeShard> fakes_;
  CountingExchange exchange_;
  int first_merged_attempt_ = 0;
  int first_committed_attempt_ = 0;
  std::vector<int> fetch_attempts_;
  std::vector<int> merge_attempts_;
  std::vector<int64_t> applied_[kShards];
  int64_t gradient_rows_[kShards] = {0, 0};
};

TEST_F(WorkerStepTest, EachRowsGradientGoesToTheShardThatOwnsIt) {
  const auto result = Step();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(applied_[0], (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(applied_[1], (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(gradient_rows_[0], 2);
  EXPECT_EQ(gradient_rows_[1], 2);
  EXPECT_EQ(result->row_count, 4);
  EXPECT_EQ(result->target_count, 3);
  EXPECT_GT(result->loss, 0.0);
}

// The ranks' collectives must pair up whatever happens, so a repeated attempt does not repeat them.
TEST_F(WorkerStepTest, AnAbortedStepStartsOverWithTheFetchButNotWithTheExchange) {
  first_merged_attempt_ = 1;
  first_committed_attempt_ = 2;
  const auto result = Step();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(fetch_attempts_, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(merge_attempts_, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(exchange_.gathers, 1);
  EXPECT_EQ(exchange_.scatters, 1);
}

TEST_F(WorkerStepTest, ShardsThatSawOtherLabelsAreRefused) {
  const auto honest = fakes_[1].fetch_step;
  fakes_[1].fetch_step = [honest](grpc::ServerContext* context, const v1::FetchStepRequest& request, v1::FetchStepResponse* response) {
    absl::Status status = honest(context, request, response);
    response->set_all_labels(EncodeArray<int64_t>(std::vector<int64_t>{0, 3, 2}));
    return status;
  };
  const absl::Status status = Step().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message().find(absl::StrCat("shard 1 (", fakes_[1].address(), ")")), 0) << status;
}

TEST_F(WorkerStepTest, AnAnswerThatDoesNotFitIsAnErrorAndNotACrash) {
  using Change = void (*)(v1::FetchStepResponse*);
  const std::vector<std::pair<std::string, Change>> changes = {
      {"a width",
       [](v1::FetchStepResponse* r) {
         EncodeMatrix(at::ones({2, kDim + 1}), DataType::kFloat32, r->mutable_centers());
       }},
      {"a row too many",
       [](v1::FetchStepResponse* r) {
         EncodeMatrix(at::ones({3, kDim}), DataType::kFloat32, r->mutable_centers());
       }},
      {"a class twice",
       [](v1::FetchStepResponse* r) {
         r->set_class_ids(EncodeArray<int64_t>(std::vector<int64_t>{2, 2}));
       }},
      {"torn ids", [](v1::FetchStepResponse* r) { r->set_class_ids("123"); }},
      {"torn labels", [](v1::FetchStepResponse* r) { r->set_all_labels("123"); }},
      {"too few ranks", [](v1::FetchStepResponse* r) { r->clear_rank_sizes(); }},
      {"sizes that do not add up", [](v1::FetchStepResponse* r) { r->set_rank_sizes(0, 2); }},
      {"a negative size", [](v1::FetchStepResponse* r) { r->set_rank_sizes(0, -3); }},
  };
  const auto honest = fakes_[0].fetch_step;
  for (const auto& [what, change] : changes) {
    SCOPED_TRACE(what);
    fakes_[0].fetch_step = [honest, change](grpc::ServerContext* context, const v1::FetchStepRequest& request,
                                            v1::FetchStepResponse* response) {
      absl::Status status = honest(context, request, response);
      change(response);
      return status;
    };
    const absl::Status status = Step().status();
    EXPECT_TRUE(status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_EQ(status.message().find("shard "), 0) << status;
  }
}

}  // namespace
}  // namespace myriad
