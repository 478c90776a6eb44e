// The protocol over real sockets: what a caller gets byte for byte, and what malformed or unlucky callers get.
#include <grpcpp/grpcpp.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "server/myriad_server.h"
#include "tests/server/protocol_fixture.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
TEST_F(ProtocolTest, ARepeatOfTheLastCommittedStepIsTheSameByteForByte) {
  Start(2, 1);
  const auto first = StepEverywhere(StepOf(0, 0));
  const std::string rows = AllRows();
  v1::HeadStepRequest repeat = StepOf(0, 0);
  repeat.mutable_key()->set_attempt(3);
  const auto second = StepEverywhere(repeat);
  for (int shard = 0; shard < 2; ++shard) {
    ASSERT_TRUE(first[shard].ok() && second[shard].ok()) << second[shard].status();
    EXPECT_EQ(first[shard]->SerializeAsString(), second[shard]->SerializeAsString());
  }
  EXPECT_EQ(AllRows(), rows);
  v1::HeadStepRequest other = StepOf(0, 0);
  (*other.mutable_embeddings()->mutable_data())[2] ^= 1;
  EXPECT_EQ(stubs_[0]->Step(other).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ProtocolTest, AMissingRankAbortsWithWhatToDoNext) {
  Start(2, 2);
  const auto results = StepEverywhere(StepOf(0, 0));
  for (const auto& result : results) {
    StepAbort abort;
    ASSERT_TRUE(GetStepAbort(result.status(), &abort)) << result.status();
    EXPECT_EQ(abort.next_attempt, 1);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("rank 1 of 2 did not come"));
  }
}

// Rank 1 comes to one shard and not to the other: the one that has all ranks votes, and hears from the other whom that one misses.
TEST_F(ProtocolTest, EveryShardTellsWhichRanksDidNotComeToAny) {
  Start(2, 2);
  std::vector<StepFuture> calls;
  for (int shard : {0, 1}) calls.push_back(stubs_[shard]->StepAsync(StepOf(0, 0)));
  calls.push_back(stubs_[1]->StepAsync(StepOf(0, 1)));
  for (StepFuture& call : calls) {
    const absl::Status status = call.get().status();
    StepAbort abort;
    ASSERT_TRUE(GetStepAbort(status, &abort)) << status;
    EXPECT_EQ(abort.next_attempt, 1);
    EXPECT_THAT(abort.missing_ranks, ::testing::ElementsAre(1)) << status;
  }
}

TEST_F(ProtocolTest, ABadNumberOnOneShardAloneMovesNothingAnywhere) {
  Start(3, 1);
  ExpectCommits(0);
  const std::string rows = AllRows();
  // The same rank tells shard 1 something else than the others: not a number.
  v1::HeadStepRequest good = StepOf(1, 0), bad = good;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(&(*bad.mutable_embeddings()->mutable_data())[kDim * sizeof(float)], &nan, sizeof(nan));
  StepFuture call0 = stubs_[0]->StepAsync(good);
  StepFuture call2 = stubs_[2]->StepAsync(good);
  const absl::Status status = stubs_[1]->Step(bad).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0: the embedding of sample 1 is not finite"));
  for (StepFuture* call : {&call0, &call2}) {
    const absl::Status other = call->get().status();
    EXPECT_EQ(other.code(), absl::StatusCode::kInvalidArgument) << other;
    EXPECT_THAT(std::string(other.message()), HasSubstr("shard 1"));
  }
  EXPECT_EQ(AllRows(), rows);
  good.mutable_key()->set_attempt(1);
  for (const auto& result : StepEverywhere(good)) EXPECT_TRUE(result.ok()) << result.status();
}

// 500 classes on 2 shards are about 250 rows each: they fit one shard, or both, or none.
TEST_F(ProtocolTest, AShardOverItsLimitOfRowsRefusesTheStepOnAll) {
  MyriadServer::Options roomy = ShardCluster::Defaults(), full = roomy;
  roomy.max_rows = 300;
  full.max_rows = 200;
  for (int over : {0, 1}) {
    SCOPED_TRACE(absl::StrCat("shard ", over, " is over its limit, the other is not"));
    stubs_.clear();
    opens_.clear();
    std::vector<MyriadServer::Options> options(2, roomy);
    options[over] = full;
    Start(1, options);
    const auto results = StepEverywhere(StepOf(0, 0));
    for (const auto& result : results) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted) << result.status();
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("limit of 200 rows (--max-rows)"));
    }
    EXPECT_THAT(std::string(results[1 - over].status().message()), HasSubstr(absl::StrCat("shard ", over)));
    EXPECT_TRUE(AllRows().empty());
    // A step that fits takes what the refused one had pinned on the other shard.
    for (int shard = 0; shard < 2; ++shard) {
      v1::OpenHeadRequest open = opens_[shard];
      open.set_incarnation(2);
      open.mutable_training()->mutable_uniform()->set_sample_count(100);
      ASSERT_TRUE(stubs_[shard]->Open(open).ok());
    }
    v1::HeadStepRequest fits = StepOf(0, 0);
    fits.mutable_key()->set_incarnation(2);
    for (const auto& result : StepEverywhere(fits)) EXPECT_TRUE(result.ok()) << result.status();
  }
  stubs_.clear();
  opens_.clear();
  Start(2, 1, roomy);
  ExpectCommits(0);
}

// Hints are no part of what a call says: shards may have heard different ones, and a repeat others than the first call.
TEST_F(ProtocolTest, CallsThatDifferInTheirHintsAloneAreTheSameCall) {
  Start(2, 1);
  v1::HeadStepRequest request = StepOf(0, 0);
  request.add_coming_labels(PackIds({1, 2, 3}));
  StepFuture other = stubs_[1]->StepAsync(StepOf(0, 0));
  const auto first = stubs_[0]->Step(request);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(other.get().ok());
  request.add_coming_labels("no labels");
  const auto repeat = stubs_[0]->Step(request);
  ASSERT_TRUE(repeat.ok()) << repeat.status();
  EXPECT_EQ(first->SerializeAsString(), repeat->SerializeAsString());
  ExpectCommits(1);
}

TEST_F(ProtocolTest, BadInputIsNamedAndRefused) {
  Start(1, 1);
  int attempt = 0;
  const auto refused = [&](const std::function<void(v1::HeadStepRequest*)>& spoil) {
    v1::HeadStepRequest request = StepOf(0, 0);
    request.mutable_key()->set_attempt(attempt++);
    spoil(&request);
    const absl::Status status = stubs_[0]->Step(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused([](auto* r) { r->set_labels(PackIds({1, 500, 3})); }), HasSubstr("rank 0, sample 1: label 500 is outside [0, 500)"));
  EXPECT_THAT(refused([](auto* r) { r->set_labels(PackIds({-1, 2, 3})); }), HasSubstr("sample 0: label -1"));
  EXPECT_THAT(refused([](auto* r) { r->set_labels(PackIds({1, 2})); }), HasSubstr("3 embeddings, 2 labels"));
  EXPECT_THAT(refused([](auto* r) { r->set_labels("abc"); }), HasSubstr("3 bytes"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_embeddings()->set_cols(9); }), HasSubstr("9 wide"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_embeddings()->set_rows(int64_t{1} << 40); }), HasSubstr("rows"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_embeddings()->set_rows(-1); }), HasSubstr("-1 rows"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_embeddings()->mutable_data()->pop_back(); }), HasSubstr("bytes"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_embeddings()->set_dtype(static_cast<v1::DataType>(99)); }), HasSubstr("99"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_parameters()->set_learning_rate(-0.5); }), HasSubstr("learning_rate -0.5"));
  EXPECT_THAT(refused([](auto* r) { r->mutable_parameters()->set_learning_rate(std::nan("")); }), HasSubstr("learning_rate"));
  EXPECT_THAT(refused([](auto* r) { r->set_rank(1); }), HasSubstr("rank 1"));
  EXPECT_THAT(refused([](auto* r) { r->set_chunk(5); }), HasSubstr("chunk 5"));
  EXPECT_THAT(refused([](auto* r) { r->set_chunk_count(std::numeric_limits<int32_t>::max()); }), HasSubstr("chunk_count"));
  EXPECT_EQ(Rows(0), "");
  v1::HeadStepRequest good = StepOf(0, 0);
  good.mutable_key()->set_attempt(attempt);
  EXPECT_TRUE(stubs_[0]->Step(good).ok());
}

TEST_F(ProtocolTest, CallsOfOtherRunsAndUnknownHeadsAreRefused) {
  Start(1, 1);
  v1::HeadStepRequest other = StepOf(0, 0);
  other.mutable_key()->set_incarnation(2);
  EXPECT_EQ(stubs_[0]->Step(other).status().code(), absl::StatusCode::kFailedPrecondition);
  other = StepOf(0, 0);
  other.mutable_key()->set_head("nobody");
  const absl::Status unknown = stubs_[0]->Step(other).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("has not opened head 'nobody'"));
}

TEST_F(ProtocolTest, OpenHeadTellsWhatDiffers) {
  Start(1, 1);
  EXPECT_TRUE(stubs_[0]->Open(opens_[0]).ok()) << "a repeat does nothing";
  const auto refused = [&](absl::StatusCode code, const std::function<void(v1::OpenHeadRequest*)>& change) {
    v1::OpenHeadRequest request = opens_[0];
    change(&request);
    const absl::Status status = stubs_[0]->Open(request).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  };
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(refused(kPrecondition, [](auto* r) { r->mutable_head()->set_seed(4); }), HasSubstr("seed"));
  EXPECT_THAT(refused(kPrecondition, [](auto* r) { r->mutable_training()->set_scale(17); }), HasSubstr("17"));
  EXPECT_THAT(refused(kPrecondition, [](auto* r) { r->set_rank_count(2); }), HasSubstr("rank_count"));
  EXPECT_THAT(refused(kPrecondition, [](auto* r) { r->add_shard_addresses("x:1"); }), HasSubstr("shard 0 of 1"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->set_incarnation(0); }), HasSubstr("incarnation 0"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->set_rank_count(1 << 20); }), HasSubstr("rank_count"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->set_shard_index(1); }), HasSubstr("shard_index 1"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->clear_shard_addresses(); }), HasSubstr("shard_addresses"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->mutable_head()->set_embedding_dim(1 << 20); }), HasSubstr("embedding_dim"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->mutable_head()->set_class_count(0); }), HasSubstr("class_count"));
  EXPECT_THAT(refused(kInvalid, [](auto* r) { r->mutable_training()->clear_margin(); }), HasSubstr("margin"));
  // A step over all of 2^40 classes does not fit any memory: refused before anything is allocated.
  EXPECT_THAT(refused(absl::StatusCode::kResourceExhausted,
                      [](auto* r) {
                        r->mutable_head()->set_name("huge");
                        r->mutable_head()->set_class_count(int64_t{1} << 40);
                      }),
              HasSubstr("MiB"));
  ExpectCommits(0);
}

TEST_F(ProtocolTest, AHigherIncarnationEndsTheRunAndGoesOnFromItsSteps) {
  Start(2, 2);
  StepFuture waiting = stubs_[0]->StepAsync(StepOf(0, 0));
  // The call waits for rank 1 once the step is open.
  while (true) {
    grpc::ClientContext context;
    v1::GetStatisticsResponse statistics;
    ASSERT_TRUE(stubs_[0]->admin().GetStatistics(&context, {}, &statistics).ok());
    if (statistics.heads(0).open_steps() == 1) break;
  }
  for (int shard = 0; shard < 2; ++shard) {
    opens_[shard].set_incarnation(5);
    opens_[shard].set_rank_count(1);
    const auto opened = stubs_[shard]->Open(opens_[shard]);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->committed_steps(), 0);
  }
  EXPECT_EQ(waiting.get().status().code(), absl::StatusCode::kFailedPrecondition);
  ExpectCommits(0);
  ExpectCommits(1);
  for (int shard = 0; shard < 2; ++shard) {
    opens_[shard].set_incarnation(6);
    const auto opened = stubs_[shard]->Open(opens_[shard]);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->committed_steps(), 2);
    opens_[shard].set_incarnation(5);
    EXPECT_EQ(stubs_[shard]->Open(opens_[shard]).status().code(), absl::StatusCode::kFailedPrecondition);
    opens_[shard].set_incarnation(6);
  }
  ExpectCommits(2);
}

TEST_F(ProtocolTest, AShardThatRestartedSaysSoAndTheOthersNameIt) {
  Start(3, 1);
  ExpectCommits(0);
  cluster_->Restart(1);
  const auto results = StepEverywhere(StepOf(1, 0));
  EXPECT_EQ(results[1].status().code(), absl::StatusCode::kDataLoss);
  for (int shard : {0, 2}) {
    // Shard 1 is the reducer of step 1.
    EXPECT_EQ(results[shard].status().code(), absl::StatusCode::kDataLoss) << results[shard].status();
    EXPECT_THAT(std::string(results[shard].status().message()), HasSubstr("shard 1"));
    EXPECT_EQ(stubs_[shard]->Info("faces")->committed_steps(), 1);
  }
}

TEST_F(ProtocolTest, AStoppedShardEndsTheRunWithDataLossNamingIt) {
  Start(3, 1);
  ExpectCommits(0);
  cluster_->Stop(2);  // Step 1's reducer lives; step 2's would not.
  const auto results = StepEverywhere(StepOf(1, 0));
  for (int shard : {0, 1}) {
    EXPECT_EQ(results[shard].status().code(), absl::StatusCode::kDataLoss) << results[shard].status();
    EXPECT_THAT(std::string(results[shard].status().message()), HasSubstr("shard 2"));
  }
}

TEST_F(ProtocolTest, RowsAreWrittenFetchedAndReadInOrder) {
  Start(2, 1);
  std::vector<std::vector<int64_t>> owned(2);
  for (int64_t id = 0; id < kClasses; ++id) {
    v1::FetchCentersRequest fetch;
    fetch.set_head("faces");
    fetch.set_class_ids(PackIds({id}));
    owned[stubs_[0]->Fetch(fetch).ok() ? 0 : 1].push_back(id);
  }
  ASSERT_GT(owned[0].size(), 200u);
  ASSERT_GT(owned[1].size(), 200u);
  for (int shard = 0; shard < 2; ++shard) {
    const std::vector<int64_t> ids(owned[shard].begin(), owned[shard].begin() + 50);
    v1::WriteRowsRequest write;
    write.set_head("faces");
    write.set_class_ids(PackIds(ids));
    *write.mutable_centers() = PackMatrix(std::vector<float>(50 * kDim, 2.5f), 50, kDim);
    *write.mutable_slots() = PackMatrix(std::vector<float>(50 * kDim, -1.0f), 50, kDim);
    ASSERT_TRUE(stubs_[shard]->Write(write).ok());
    // Refusals that change nothing.
    v1::WriteRowsRequest bad = write;
    bad.set_class_ids(PackIds(std::vector<int64_t>(ids.rbegin(), ids.rend())));
    EXPECT_EQ(stubs_[shard]->Write(bad).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(stubs_[1 - shard]->Write(write).code(), absl::StatusCode::kFailedPrecondition);
    bad = write;
    bad.mutable_centers()->set_rows(49);
    EXPECT_EQ(stubs_[shard]->Write(bad).code(), absl::StatusCode::kInvalidArgument);
    bad = write;
    bad.mutable_centers()->mutable_data()->replace(0, 4, "\xff\xff\xff\x7f");
    EXPECT_EQ(stubs_[shard]->Write(bad).code(), absl::StatusCode::kInvalidArgument);

    v1::FetchCentersRequest fetch;
    fetch.set_head("faces");
    fetch.set_with_slots(true);
    fetch.set_class_ids(PackIds({owned[shard][49], owned[shard][50]}));
    const auto fetched = stubs_[shard]->Fetch(fetch);
    ASSERT_TRUE(fetched.ok() && fetched->size() == 1) << fetched.status();
    EXPECT_EQ((*fetched)[0].exists(), std::string("\1\0", 2));
    float weight, slot;
    std::memcpy(&weight, (*fetched)[0].centers().data().data(), sizeof(weight));
    std::memcpy(&slot, (*fetched)[0].slots().data().data(), sizeof(slot));
    EXPECT_EQ(weight, 2.5f);
    EXPECT_EQ(slot, -1.0f);

    const auto rows = stubs_[shard]->ReadRows("faces", false);
    ASSERT_TRUE(rows.ok() && rows->size() == 1);
    EXPECT_EQ((*rows)[0].centers().rows(), 50);
    EXPECT_EQ((*rows)[0].slots().rows(), 0);
  }
}

// 3,000 rows of 2 x 512 floats are 12 MB: streamed in messages of at most 1 MiB and a little, far above gRPC's default of 4 MB in sum.
TEST_F(ProtocolTest, ManyRowsStreamInMessagesOfAMebibyte) {
  Start(1, 1);
  v1::OpenHeadRequest open = MakeOpen("wide", 3000, 512, cluster_->addresses(), 0, 1);
  ASSERT_TRUE(stubs_[0]->Open(open).ok());
  std::vector<int64_t> labels(2600, 1);  // Embeddings of more than 4 MB in one message.
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = i;
  const auto stepped = stubs_[0]->Step(MakeStep(open, 0, 0, labels, 1));
  ASSERT_TRUE(stepped.ok()) << stepped.status();
  EXPECT_EQ(stepped->embedding_gradients().rows(), 2600);
  const auto rows = stubs_[0]->ReadRows("wide", true);
  ASSERT_TRUE(rows.ok()) << rows.status();
  int64_t count = 0;
  for (const v1::ReadRowsResponse& message : *rows) {
    count += message.centers().rows();
    EXPECT_LE(message.ByteSizeLong(), (1u << 20) + (1u << 16));
    EXPECT_EQ(message.committed_steps(), 1);
  }
  EXPECT_EQ(count, 3000);
}

// 12 MB of rows do not fit what the connection keeps for a reader who takes one message and no more.
TEST_F(ProtocolTest, ASlowReaderIsRefusedSoonerThanTheRun) {
  Start(1, 1);
  v1::OpenHeadRequest open = MakeOpen("wide", 3000, 512, cluster_->addresses(), 0, 1);
  open.set_step_deadline_ms(500);
  ASSERT_TRUE(stubs_[0]->Open(open).ok());
  ASSERT_TRUE(stubs_[0]->Step(MakeStep(open, 0, 0, {1, 2, 3}, 1)).ok());
  grpc::ClientContext context;
  v1::ReadRowsRequest request;
  request.set_head("wide");
  request.set_with_slots(true);
  const auto reader = stubs_[0]->admin().ReadRows(&context, request);
  v1::ReadRowsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  const auto stepped = stubs_[0]->Step(MakeStep(open, 1, 0, {1, 2, 3}, 2));
  EXPECT_TRUE(stepped.ok()) << stepped.status();
  int64_t rows = message.centers().rows();
  while (reader->Read(&message)) {
    rows += message.centers().rows();
    EXPECT_EQ(message.committed_steps(), 1) << "rows of two instants in one stream";
  }
  const absl::Status status = FromGrpcStatus(reader->Finish());
  EXPECT_FALSE(status.ok());
  EXPECT_LT(rows, 3000);
}

TEST_F(ProtocolTest, AMessageOverTheLimitIsRefusedAndTheServerLives) {
  MyriadServer::Options options = ShardCluster::Defaults();
  options.max_message_mib = 1;
  Start(1, 1, options);
  v1::HeadStepRequest huge = StepOf(0, 0);
  huge.mutable_embeddings()->mutable_data()->resize(2 << 20);
  EXPECT_EQ(stubs_[0]->Step(huge).status().code(), absl::StatusCode::kResourceExhausted);
  ExpectCommits(0);
}

TEST_F(ProtocolTest, PeersCallsAreChecked) {
  Start(2, 1);
  v1::VoteRequest vote;
  vote.mutable_key()->set_head("faces");
  vote.mutable_key()->set_incarnation(1);
  vote.set_digest(std::string(16, 'x'));
  const auto call = [&](const v1::VoteRequest& request) {
    grpc::ClientContext context;
    v1::VoteResponse response;
    return FromGrpcStatus(stubs_[0]->peer().Vote(&context, request, &response));
  };
  v1::VoteRequest bad = vote;
  bad.set_shard_index(2);
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = vote;
  bad.mutable_key()->set_step(1);  // Shard 1's to decide.
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = vote;
  bad.mutable_key()->set_step(-2);
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = vote;
  bad.set_digest("short");
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = vote;
  bad.set_sample_count(int64_t{1} << 60);
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = vote;
  bad.mutable_key()->set_incarnation(9);
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kFailedPrecondition);
  bad = vote;
  bad.mutable_key()->set_head("nobody");
  EXPECT_EQ(call(bad).code(), absl::StatusCode::kDataLoss);
  for (const auto& [attempt, chunk, voter] : std::vector<std::tuple<int, int, int>>{{-1, 0, 1}, {0, -1, 1}, {0, 1 << 20, 1}, {0, 0, 0}}) {
    bad = vote;
    bad.set_shard_index(voter);
    bad.mutable_key()->set_attempt(attempt);
    bad.set_chunk(chunk);
    EXPECT_EQ(call(bad).code(), absl::StatusCode::kInvalidArgument) << "attempt " << attempt << " chunk " << chunk << " voter " << voter;
  }
  const auto ask = [&](int64_t step, int attempt, int asker) {
    grpc::ClientContext context;
    v1::GetOutcomeRequest request;
    v1::GetOutcomeResponse response;
    *request.mutable_key() = vote.key();
    request.mutable_key()->set_step(step);
    request.mutable_key()->set_attempt(attempt);
    request.set_shard_index(asker);
    return FromGrpcStatus(stubs_[0]->peer().GetOutcome(&context, request, &response)).code();
  };
  EXPECT_EQ(ask(1, -1, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ask(1, 0, 0), absl::StatusCode::kInvalidArgument) << "a shard does not ask itself";
  EXPECT_EQ(ask(0, 0, 1), absl::StatusCode::kFailedPrecondition) << "the reducer is asked by voting";
  EXPECT_EQ(ask(1001, 0, 1), absl::StatusCode::kFailedPrecondition) << "far from where the run is";
  for (int64_t step = 0; step < 3; ++step) ExpectCommits(step);
}

TEST_F(ProtocolTest, StepsOfSeveralHeadsGoOnBesideEachOther) {
  Start(2, 1);
  for (int shard = 0; shard < 2; ++shard) {
    v1::OpenHeadRequest open = OpenRequest(shard);
    open.mutable_head()->set_name("products");
    ASSERT_TRUE(stubs_[shard]->Open(open).ok());
  }
  for (int64_t step = 0; step < 3; ++step) {
    v1::HeadStepRequest products = StepOf(step, 0);
    products.mutable_key()->set_head("products");
    StepFuture call0 = stubs_[0]->StepAsync(StepOf(step, 0));
    StepFuture call1 = stubs_[1]->StepAsync(products);
    StepFuture call2 = stubs_[0]->StepAsync(products);
    StepFuture call3 = stubs_[1]->StepAsync(StepOf(step, 0));
    for (StepFuture* call : {&call0, &call1, &call2, &call3}) EXPECT_TRUE(call->get().ok());
  }
}

TEST(MyriadServerTest, APortInUseIsOneClearLine) {
  ShardCluster cluster(1);
  MyriadServer::Options options;
  options.listen = cluster.addresses()[0];
  const absl::Status status = MyriadServer::Start(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()), absl::StrCat("cannot listen on ", cluster.addresses()[0], ": Address already in use"));
}

TEST(MyriadServerTest, OptionsOutOfRangeAreNamed) {
  for (const auto& [text, change] : std::vector<std::pair<std::string, std::function<void(MyriadServer::Options*)>>>{
           {"threads 0", [](auto* o) { o->threads = 0; }},
           {"max-rows -1", [](auto* o) { o->max_rows = -1; }},
           {"max-message-mib 4096", [](auto* o) { o->max_message_mib = 4096; }},
           {"'nowhere'", [](auto* o) { o->listen = "nowhere"; }},
           {"'host:99999'", [](auto* o) { o->listen = "host:99999"; }}}) {
    MyriadServer::Options options;
    change(&options);
    const absl::Status status = MyriadServer::Start(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace myriad
