#include "client/head_client.h"

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "head/partitions.h"
#include "proto/wire/coming_labels.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"
#include "tests/testing/client/fake_shard.h"

namespace myriad {
namespace {

using testing::FakeShard;

constexpr int kDim = 4;

HeadClient::Options OptionsFor(const std::deque<FakeShard>& fakes) {
  HeadClient::Options options;
  options.head.name = "faces";
  options.head.class_count = 1000;
  options.head.embedding_dim = kDim;
  options.head.seed = 7;
  options.training.sampler.sample_count = 10;
  for (const FakeShard& fake : fakes) options.shard_addresses.push_back(fake.address());
  options.shard_wait = absl::Milliseconds(300);
  return options;
}

absl::Status OpenAtStep3(grpc::ServerContext*, const v1::OpenHeadRequest&, v1::OpenHeadResponse* response) {
  response->set_committed_steps(3);
  return absl::OkStatus();
}

std::unique_ptr<HeadClient> OpenClient(const HeadClient::Options& options) {
  auto client = HeadClient::Create(options);
  EXPECT_TRUE(client.ok()) << client.status();
  EXPECT_EQ((*client)->Open(5).value_or(-1), 3);
  return *std::move(client);
}

// A shard's share of dX that is `value` everywhere.
void AnswerShare(const v1::HeadStepRequest& request, float value, v1::HeadStepResponse* response) {
  EncodeMatrix(at::full({request.embeddings().rows(), kDim}, value), *ParseDataType(request.embeddings().dtype()),
               response->mutable_embedding_gradients());
}

StepInput Input(const at::Tensor& embeddings, const std::vector<int64_t>& labels, int64_t step = 3) {
  StepInput input;
  input.step = step;
  input.learning_rate = 0.1;
  input.embeddings = embeddings;
  input.labels = labels;
  return input;
}

TEST(HeadClientTest, OptionsThatCannotWorkAreRefused) {
  const std::deque<FakeShard> fakes(1);
  const auto code_of = [](const HeadClient::Options& options) { return HeadClient::Create(options).status().code(); };
  EXPECT_EQ(code_of(OptionsFor(fakes)), absl::StatusCode::kOk);
  HeadClient::Options no_address = OptionsFor(fakes);
  no_address.shard_addresses.clear();
  EXPECT_EQ(code_of(no_address), absl::StatusCode::kInvalidArgument);
  HeadClient::Options no_port = OptionsFor(fakes);
  no_port.shard_addresses[0] = "localhost";
  EXPECT_EQ(code_of(no_port), absl::StatusCode::kInvalidArgument);
  HeadClient::Options no_classes = OptionsFor(fakes);
  no_classes.head.class_count = 0;
  EXPECT_EQ(code_of(no_classes), absl::StatusCode::kInvalidArgument);
  HeadClient::Options rank_out_of_range = OptionsFor(fakes);
  rank_out_of_range.rank = 1;
  EXPECT_EQ(code_of(rank_out_of_range), absl::StatusCode::kInvalidArgument);
  HeadClient::Options no_exchange = OptionsFor(fakes);
  no_exchange.training.placement = Placement::kWorker;
  no_exchange.rank_count = 2;
  EXPECT_EQ(code_of(no_exchange), absl::StatusCode::kInvalidArgument);
}

TEST(HeadClientTest, WaitForShardsNamesTheAddressThatDoesNotAnswer) {
  std::deque<FakeShard> fakes(2);
  for (FakeShard& fake : fakes) {
    fake.list_heads = [](grpc::ServerContext*, const v1::ListHeadsRequest&, v1::ListHeadsResponse*) { return absl::OkStatus(); };
  }
  auto client = HeadClient::Create(OptionsFor(fakes));
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->WaitForShards(absl::Seconds(30)), absl::OkStatus());
  fakes[1].Stop();
  const absl::Status status = (*client)->WaitForShards(absl::Milliseconds(200));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find(fakes[1].address()), std::string::npos) << status;
}

TEST(HeadClientTest, AnIncarnationIsLargerThanAnyShardKnows) {
  std::deque<FakeShard> fakes(3);
  for (int k = 0; k < 3; ++k) {
    fakes[k].list_heads = [k](grpc::ServerContext*, const v1::ListHeadsRequest&, v1::ListHeadsResponse* response) {
      const std::map<std::string, std::vector<int64_t>> known = {{"faces", {4, 9, 0}}, {"others", {77, 77, 77}}};
      for (const auto& [name, incarnations] : known) {
        v1::HeadInfo* const info = response->add_heads();
        info->mutable_head()->set_name(name);
        info->set_incarnation(incarnations[k]);
      }
      return absl::OkStatus();
    };
  }
  auto client = HeadClient::Create(OptionsFor(fakes));
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->MintIncarnation().value_or(-1), 10);
}

TEST(HeadClientTest, OpenTellsEachShardItsIndexAndAllAddresses) {
  std::deque<FakeShard> fakes(2);
  std::mutex mu;
  std::map<int, v1::OpenHeadRequest> seen;
  for (int k = 0; k < 2; ++k) {
    fakes[k].open_head = [&, k](grpc::ServerContext* context, const v1::OpenHeadRequest& request, v1::OpenHeadResponse* response) {
      std::lock_guard<std::mutex> lock(mu);
      seen[k] = request;
      return OpenAtStep3(context, request, response);
    };
  }
  const HeadClient::Options options = OptionsFor(fakes);
  OpenClient(options);
  for (int k = 0; k < 2; ++k) {
    EXPECT_EQ(seen[k].shard_index(), k);
    EXPECT_EQ(seen[k].incarnation(), 5);
    EXPECT_EQ(seen[k].rank_count(), 1);
    EXPECT_EQ(seen[k].shard_wait_ms(), 300);
    EXPECT_EQ(std::vector<std::string>(seen[k].shard_addresses().begin(), seen[k].shard_addresses().end()), options.shard_addresses);
    EXPECT_EQ(*ParseHeadSpec(seen[k].head()), options.head);
  }
}

TEST(HeadClientTest, ShardsThatCommittedDifferentNumbersOfStepsAreNamed) {
  std::deque<FakeShard> fakes(2);
  fakes[0].open_head = OpenAtStep3;
  fakes[1].open_head = [](grpc::ServerContext*, const v1::OpenHeadRequest&, v1::OpenHeadResponse* response) {
    response->set_committed_steps(2);
    return absl::OkStatus();
  };
  auto client = HeadClient::Create(OptionsFor(fakes));
  ASSERT_TRUE(client.ok());
  const absl::Status status = (*client)->Open(5).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find(fakes[0].address()), std::string::npos) << status;
  EXPECT_NE(status.message().find(fakes[1].address()), std::string::npos) << status;
}

TEST(HeadClientTest, AStepSumsTheSharesAndCountsRowsOverTheShards) {
  std::deque<FakeShard> fakes(3);
  for (int k = 0; k < 3; ++k) {
    fakes[k].open_head = OpenAtStep3;
    fakes[k].head_step = [k](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) {
      EXPECT_EQ(request.key().head(), "faces");
      EXPECT_EQ(request.key().incarnation(), 5);
      EXPECT_EQ(request.key().step(), 3);
      EXPECT_EQ(request.mode(), v1::STEP_MODE_TRAIN);
      EXPECT_EQ(request.parameters().learning_rate(), 0.1);
      EXPECT_EQ(*DecodeArray<int64_t>(request.labels(), ""), (std::vector<int64_t>{12, 900}));
      EXPECT_EQ(DecodeComingLabels(request.coming_labels()), ComingLabels({{7}, {8, 9}}));
      AnswerShare(request, static_cast<float>(k + 1), response);
      response->mutable_statistics()->set_loss(2.5);
      response->mutable_statistics()->set_sample_count(2);
      response->mutable_statistics()->set_target_count(1);
      response->mutable_statistics()->set_row_count(100 + k);
      response->mutable_statistics()->set_gather_seconds(0.1 * k);
      return absl::OkStatus();
    };
  }
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  const std::vector<int64_t> labels = {12, 900};
  const ComingLabels coming = {{7}, {8, 9}};
  StepInput input = Input(at::ones({2, kDim}), labels);
  input.coming_labels = coming;
  const auto result = client->Step(input);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(at::equal(result->embedding_gradients, at::full({2, kDim}, 6.0f)));
  EXPECT_EQ(result->loss, 2.5);
  EXPECT_EQ(result->sample_count, 2);
  EXPECT_EQ(result->target_count, 1);
  EXPECT_EQ(result->row_count, 303);
  EXPECT_EQ(result->shard_seconds.gather, 0.2);
  EXPECT_GT(result->wire_bytes, 3 * 2 * 2 * kDim * 4);
}

TEST(HeadClientTest, SixteenBitEmbeddingsGoOnTheWireWhenAskedFor) {
  for (DataType dtype : {DataType::kBFloat16, DataType::kFloat16}) {
    std::deque<FakeShard> fakes(1);
    fakes[0].open_head = OpenAtStep3;
    fakes[0].head_step = [dtype](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) {
      EXPECT_EQ(*ParseDataType(request.embeddings().dtype()), dtype);
      EXPECT_EQ(request.embeddings().data().size(), 2 * kDim * 2);
      AnswerShare(request, 0.5f, response);
      return absl::OkStatus();
    };
    HeadClient::Options options = OptionsFor(fakes);
    options.wire_dtype = dtype;
    const auto result = OpenClient(options)->Step(Input(at::ones({2, kDim}), {1, 2}));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(at::equal(result->embedding_gradients, at::full({2, kDim}, 0.5f)));
  }
}

TEST(HeadClientTest, AnAbortedStepIsTriedAgainOnAllShardsWithTheHighestAttempt) {
  std::deque<FakeShard> fakes(2);
  std::mutex mu;
  std::vector<int> attempts[2];
  for (int k = 0; k < 2; ++k) {
    fakes[k].open_head = OpenAtStep3;
    fakes[k].head_step = [&, k](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) -> absl::Status {
      std::lock_guard<std::mutex> lock(mu);
      attempts[k].push_back(request.key().attempt());
      if (k == 1 && request.key().attempt() < 4) return StepAbortedError("rank 1 did not come", {4, {1}});
      AnswerShare(request, 1.0f, response);
      return absl::OkStatus();
    };
  }
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  ASSERT_TRUE(client->Step(Input(at::ones({1, kDim}), {1})).ok());
  EXPECT_EQ(attempts[0], (std::vector<int>{0, 4}));
  EXPECT_EQ(attempts[1], (std::vector<int>{0, 4}));
}

TEST(HeadClientTest, AbortsEndAfterMaxAttemptsAndTheNextStepStartsAtAttemptZero) {
  std::deque<FakeShard> fakes(1);
  std::vector<int> attempts;
  fakes[0].open_head = OpenAtStep3;
  fakes[0].head_step = [&](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) -> absl::Status {
    attempts.push_back(request.key().attempt());
    if (request.key().step() == 3) return StepAbortedError("rank 1 did not come", {request.key().attempt() + 1, {1}});
    AnswerShare(request, 1.0f, response);
    return absl::OkStatus();
  };
  HeadClient::Options options = OptionsFor(fakes);
  options.max_attempts = 3;
  const std::unique_ptr<HeadClient> client = OpenClient(options);
  const absl::Status status = client->Step(Input(at::ones({1, kDim}), {1})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_NE(status.message().find(absl::StrCat("shard 0 (", fakes[0].address(), "): rank 1 did not come")), std::string::npos) << status;
  EXPECT_EQ(attempts, (std::vector<int>{0, 1, 2}));
  ASSERT_TRUE(client->Step(Input(at::ones({1, kDim}), {1}, /*step=*/4)).ok());
  EXPECT_EQ(attempts.back(), 0);
}

TEST(HeadClientTest, AStepThatWasRefusedIsAskedForAgainUnderANewAttempt) {
  std::deque<FakeShard> fakes(1);
  std::vector<int> attempts;
  fakes[0].open_head = OpenAtStep3;
  fakes[0].head_step = [&](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) -> absl::Status {
    attempts.push_back(request.key().attempt());
    if (attempts.size() == 1) return absl::InvalidArgumentError("rank 0, row 0: NaN");
    AnswerShare(request, 1.0f, response);
    return absl::OkStatus();
  };
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  EXPECT_EQ(client->Step(Input(at::ones({1, kDim}), {1})).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(client->Step(Input(at::ones({1, kDim}), {1})).ok());
  EXPECT_EQ(attempts, (std::vector<int>{0, 1}));
}

// The next attempt of a step begins at chunk 0; what the earlier chunks brought is known to the client alone.
TEST(HeadClientTest, AnAbortInALaterChunkSendsTheStepAgainFromItsFirstChunk) {
  std::deque<FakeShard> fakes(1);
  std::vector<std::pair<int, int>> seen;  // Attempt and chunk.
  fakes[0].open_head = OpenAtStep3;
  fakes[0].head_step = [&](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) -> absl::Status {
    const int attempt = request.key().attempt(), chunk = request.chunk();
    seen.emplace_back(attempt, chunk);
    EXPECT_EQ(*DecodeArray<int64_t>(request.labels(), ""), (std::vector<int64_t>{chunk}));
    EXPECT_EQ(request.step_labels().size(), chunk == 0 ? 3 * sizeof(int64_t) : 0);
    EXPECT_EQ(ViewMatrix(request.embeddings(), kDim, "")->sum().item<float>(), kDim * (chunk + 1.0f));
    if (chunk == 2 && attempt < 2) return StepAbortedError("rank 1 did not come", {attempt + 1, {1}});
    AnswerShare(request, chunk + 1.0f, response);
    return absl::OkStatus();
  };
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  const std::vector<int64_t> labels = {0, 1, 2};
  for (int64_t step : {3, 4}) {
    seen.clear();
    for (int chunk = 0; chunk < 3; ++chunk) {
      const std::vector<int64_t> own = {chunk};
      StepInput input = Input(at::full({1, kDim}, chunk + 1.0f), own, step);
      input.chunk = chunk;
      input.chunk_count = 3;
      if (chunk == 0) input.step_labels = labels;
      const auto result = client->Step(input);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_TRUE(at::equal(result->embedding_gradients, at::full({1, kDim}, chunk + 1.0f)));
    }
    EXPECT_EQ(seen, (std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1}, {2, 2}}));
  }
}

TEST(HeadClientTest, AChunkWithoutThoseBeforeItIsRefusedBeforeAnyCall) {
  std::deque<FakeShard> fakes(1);
  fakes[0].open_head = OpenAtStep3;
  fakes[0].head_step = [](grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) {
    AnswerShare(request, 1.0f, response);
    return absl::OkStatus();
  };
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  const std::vector<int64_t> labels = {1};
  const auto code_of = [&](int64_t step, int chunk) {
    StepInput input = Input(at::ones({1, kDim}), labels, step);
    input.chunk = chunk;
    input.chunk_count = 3;
    return client->Step(input).status().code();
  };
  EXPECT_EQ(code_of(3, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(3, 0), absl::StatusCode::kOk);
  EXPECT_EQ(code_of(3, 2), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(4, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(3, 1), absl::StatusCode::kOk);
}

TEST(HeadClientTest, AShardLostInAStepIsDataLossNamingIt) {
  std::deque<FakeShard> fakes(2);
  for (FakeShard& fake : fakes) {
    fake.open_head = OpenAtStep3;
    fake.head_step = [](grpc::ServerContext* context, const v1::HeadStepRequest&, v1::HeadStepResponse*) {
      return FakeShard::WaitForCancel(context);
    };
  }
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  fakes[1].Stop();
  const absl::Status status = client->Step(Input(at::ones({1, kDim}), {1})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(status.message().find(absl::StrCat("shard 1 (", fakes[1].address(), ")")), 0) << status;
}

TEST(HeadClientTest, InputsThatCannotBeSentAreRefusedBeforeAnyCall) {
  std::deque<FakeShard> fakes(1);
  fakes[0].open_head = OpenAtStep3;
  const std::unique_ptr<HeadClient> client = OpenClient(OptionsFor(fakes));
  const auto code_of = [&](const StepInput& input) { return client->Step(input).status().code(); };
  EXPECT_EQ(code_of(Input(at::Tensor(), {})), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(Input(at::ones({2, kDim}), {1})), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of(Input(at::ones({1, kDim}, at::kDouble), {1})), absl::StatusCode::kInvalidArgument);
  StepInput chunk_out_of_range = Input(at::ones({1, kDim}), {1});
  chunk_out_of_range.chunk = 2;
  chunk_out_of_range.chunk_count = 2;
  EXPECT_EQ(code_of(chunk_out_of_range), absl::StatusCode::kInvalidArgument);

  HeadClient::Options at_worker = OptionsFor(fakes);
  at_worker.training.placement = Placement::kWorker;
  StepInput chunks = Input(at::ones({1, kDim}), {1});
  chunks.chunk_count = 2;
  const absl::Status status = OpenClient(at_worker)->Step(chunks).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("compute at the shard"), std::string::npos) << status;
}

TEST(HeadClientTest, AStepBeforeOpenIsRefused) {
  const std::deque<FakeShard> fakes(1);
  auto client = HeadClient::Create(OptionsFor(fakes));
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->Step(Input(at::ones({1, kDim}), {1})).status().code(), absl::StatusCode::kFailedPrecondition);
}

// A shard whose center of class c is (c, c, c, c), sent one row a message; only even classes exist.
absl::Status StreamCenters(const v1::FetchCentersRequest& request, size_t limit, grpc::ServerWriter<v1::FetchCentersResponse>* writer) {
  const std::vector<int64_t> ids = *DecodeArray<int64_t>(request.class_ids(), "");
  for (size_t j = 0; j < ids.size() && j < limit; ++j) {
    v1::FetchCentersResponse response;
    response.set_class_ids(EncodeArray<int64_t>(absl::MakeConstSpan(&ids[j], 1)));
    EncodeMatrix(at::full({1, kDim}, static_cast<float>(ids[j])), DataType::kFloat32, response.mutable_centers());
    response.set_exists(std::string(1, ids[j] % 2 == 0 ? '\1' : '\0'));
    writer->Write(response);
  }
  return ids.size() <= limit ? absl::OkStatus() : absl::UnavailableError("the connection broke");
}

TEST(HeadClientTest, CentersComeInTheOrderAskedForFromTheShardsThatOwnThem) {
  std::deque<FakeShard> fakes(3);
  const HeadClient::Options options = OptionsFor(fakes);
  const Partitions partitions(options.head.class_count, options.head.seed);
  std::atomic<int> calls{0};
  for (int k = 0; k < 3; ++k) {
    fakes[k].fetch_centers = [&, k](grpc::ServerContext*, const v1::FetchCentersRequest& request,
                                    grpc::ServerWriter<v1::FetchCentersResponse>* writer) {
      int64_t last = -1;
      const std::vector<int64_t> asked = *DecodeArray<int64_t>(request.class_ids(), "");
      for (int64_t id : asked) {
        EXPECT_EQ(partitions.ShardOfClass(id, 3), k);
        EXPECT_GT(id, last);
        last = id;
      }
      // The first stream of all breaks after a row and must not spoil what follows.
      return StreamCenters(request, ++calls == 1 ? 1 : 1000, writer);
    };
  }
  auto client = HeadClient::Create(options);
  ASSERT_TRUE(client.ok());
  const std::vector<int64_t> ids = {999, 0, 17, 500, 17, 3, 998, 250, 251, 252};
  std::vector<bool> exists;
  const auto centers = (*client)->FetchCenters(ids, &exists);
  ASSERT_TRUE(centers.ok()) << centers.status();
  ASSERT_EQ(centers->size(0), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_TRUE(at::equal((*centers)[i], at::full({kDim}, static_cast<float>(ids[i])))) << "row " << i;
    EXPECT_EQ(exists[i], ids[i] % 2 == 0) << "row " << i;
  }
  const absl::Status out_of_range = (*client)->FetchCenters({1000}, nullptr).status();
  EXPECT_EQ(out_of_range.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(out_of_range.message().find("class 1000 is outside [0, 1000)"), std::string::npos) << out_of_range;
}

TEST(HeadClientTest, RowsAreWrittenToTheirOwnersInManyRequests) {
  std::deque<FakeShard> fakes(2);
  HeadClient::Options options = OptionsFor(fakes);
  options.head.class_count = 800000;
  const Partitions partitions(options.head.class_count, options.head.seed);
  std::mutex mu;
  std::map<int64_t, float> written;
  std::atomic<int> requests{0};
  for (int k = 0; k < 2; ++k) {
    fakes[k].write_rows = [&, k](grpc::ServerContext*, const v1::WriteRowsRequest& request, v1::WriteRowsResponse*) {
      ++requests;
      const std::vector<int64_t> ids = *DecodeArray<int64_t>(request.class_ids(), "");
      const at::Tensor centers = *ViewMatrix(request.centers(), kDim, "");
      EXPECT_EQ(request.slots().rows(), 0);
      std::lock_guard<std::mutex> lock(mu);
      for (size_t j = 0; j < ids.size(); ++j) {
        EXPECT_EQ(partitions.ShardOfClass(ids[j], 2), k);
        EXPECT_TRUE(j == 0 || ids[j] > ids[j - 1]);
        written[ids[j]] = centers[j][0].item<float>();
      }
      return absl::OkStatus();
    };
  }
  auto client = HeadClient::Create(options);
  ASSERT_TRUE(client.ok());
  // More rows on each shard than one request carries; descending ids.
  constexpr int64_t kRows = 700000;
  std::vector<int64_t> ids(kRows);
  for (int64_t i = 0; i < kRows; ++i) ids[i] = options.head.class_count - 1 - i;
  const at::Tensor weights = at::arange(kRows, at::kFloat).unsqueeze(1).expand({kRows, kDim}).contiguous();
  ASSERT_EQ((*client)->WriteRows(ids, weights, at::Tensor()), absl::OkStatus());
  EXPECT_EQ(requests, 4);
  ASSERT_EQ(written.size(), kRows);
  for (int64_t i = 0; i < kRows; i += 997) EXPECT_EQ(written[ids[i]], static_cast<float>(i));

  EXPECT_EQ((*client)->WriteRows({5, 6, 5}, at::ones({3, kDim}), at::Tensor()), absl::InvalidArgumentError("class 5 is given twice"));
  EXPECT_EQ((*client)->WriteRows({5}, at::ones({1, kDim + 1}), at::Tensor()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(HeadClientTest, ReadRowsVisitsEveryShardAndRefusesShardsAtDifferentSteps) {
  std::deque<FakeShard> fakes(2);
  std::atomic<int64_t> steps_of_second{8};
  for (int k = 0; k < 2; ++k) {
    fakes[k].read_rows = [&, k](grpc::ServerContext*, const v1::ReadRowsRequest& request,
                                grpc::ServerWriter<v1::ReadRowsResponse>* writer) {
      for (int64_t id : {10 + k, 20 + k}) {
        v1::ReadRowsResponse response;
        response.set_class_ids(EncodeArray<int64_t>(absl::MakeConstSpan(&id, 1)));
        EncodeMatrix(at::full({1, kDim}, static_cast<float>(id)), DataType::kFloat32, response.mutable_centers());
        if (request.with_slots()) EncodeMatrix(at::zeros({1, kDim}), DataType::kFloat32, response.mutable_slots());
        response.set_committed_steps(k == 0 ? 8 : steps_of_second.load());
        writer->Write(response);
      }
      return absl::OkStatus();
    };
  }
  auto client = HeadClient::Create(OptionsFor(fakes));
  ASSERT_TRUE(client.ok());
  for (bool with_slots : {false, true}) {
    std::vector<int64_t> seen;
    std::vector<int> shards;
    const auto visit = [&](const RowBatch& batch) {
      shards.push_back(batch.shard);
      seen.insert(seen.end(), batch.class_ids.begin(), batch.class_ids.end());
      EXPECT_EQ(batch.weights[0][0].item<float>(), static_cast<float>(batch.class_ids[0]));
      EXPECT_EQ(batch.slots.size(0), with_slots ? 1 : 0);
      return absl::OkStatus();
    };
    EXPECT_EQ((*client)->ReadRows(with_slots, visit), absl::OkStatus());
    EXPECT_EQ(seen, (std::vector<int64_t>{10, 20, 11, 21}));
    EXPECT_EQ(shards, (std::vector<int>{0, 0, 1, 1}));
  }
  const auto refuse = [](const RowBatch&) { return absl::ResourceExhaustedError("disk"); };
  EXPECT_EQ((*client)->ReadRows(false, refuse), absl::ResourceExhaustedError("disk"));
  steps_of_second = 9;
  const auto ignore = [](const RowBatch&) { return absl::OkStatus(); };
  EXPECT_EQ((*client)->ReadRows(false, ignore).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace myriad
