// What a server makes of requests that no client of ours would send: they are refused by name, no row moves, and it goes on.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/protocol_fixture.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using BadInputTest = ProtocolTest;
using WorkerBadInputTest = WorkerProtocolTest;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// A caller that is newer than the server means something by such a mode: to train instead would move W.
TEST_F(BadInputTest, AModeThatIsNotKnownDoesNotTrain) {
  Start(2, 1);
  v1::HeadStepRequest request = StepOf(0, 0);
  request.set_mode(static_cast<v1::StepMode>(7));
  for (const auto& result : StepEverywhere(request)) {
    EXPECT_EQ(result.status().code(), kInvalid);
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("mode 7"));
  }
  v1::VoteRequest vote;
  *vote.mutable_key() = request.key();
  vote.set_mode(static_cast<v1::StepMode>(7));
  vote.set_digest(std::string(16, 'x'));
  grpc::ClientContext vote_context, question_context;
  v1::VoteResponse voted;
  EXPECT_EQ(FromGrpcStatus(stubs_[0]->peer().Vote(&vote_context, vote, &voted)).code(), kInvalid);
  v1::GetOutcomeRequest question;
  *question.mutable_key() = request.key();
  question.set_mode(static_cast<v1::StepMode>(7));
  v1::GetOutcomeResponse answer;
  EXPECT_EQ(FromGrpcStatus(stubs_[0]->peer().GetOutcome(&question_context, question, &answer)).code(), kInvalid);
  EXPECT_EQ(AllRows(), "");
  ExpectCommits(0);
}

// 1e39 is a number, and infinite as soon as a row is moved by it: infinity times a gradient of zero would make NaN of all rows.
TEST_F(BadInputTest, ARateThatIsInfiniteInFloat32MovesNothing) {
  Start(2, 1);
  ExpectCommits(0);
  const std::string rows = AllRows();
  int attempt = 0;
  for (const double rate : {1e39, std::numeric_limits<double>::infinity(), std::nan(""), -1.0}) {
    v1::HeadStepRequest request = StepOf(1, 0);
    request.mutable_key()->set_attempt(attempt++);
    request.mutable_parameters()->set_learning_rate(rate);
    for (const auto& result : StepEverywhere(request)) {
      EXPECT_EQ(result.status().code(), kInvalid) << rate;
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("learning_rate"));
    }
  }
  EXPECT_EQ(AllRows(), rows);
  // The head's own factor counts.
  for (int shard = 0; shard < 2; ++shard) {
    opens_[shard].set_incarnation(2);
    opens_[shard].mutable_training()->mutable_sgd()->set_rate_scale(1e30);
    ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
  }
  v1::HeadStepRequest request = StepOf(1, 0);
  request.mutable_parameters()->set_learning_rate(1e10);
  for (const auto& result : StepEverywhere(request)) EXPECT_EQ(result.status().code(), kInvalid);
  EXPECT_EQ(AllRows(), rows);
}

TEST_F(BadInputTest, OpenHeadThatCannotBeIsRefusedAndLeavesNoHead) {
  Start(1, 1);
  const std::vector<std::pair<std::string, std::function<void(v1::OpenHeadRequest*)>>> cases = {
      {"head.name", [](auto* r) { r->mutable_head()->set_name("a/b"); }},
      {"head.name", [](auto* r) { r->clear_head(); }},
      {"training.margin is not set", [](auto* r) { r->clear_training(); }},
      {"training.optimizer", [](auto* r) { r->mutable_training()->clear_sgd(); }},
      {"the slots of adagrad", [](auto* r) { r->mutable_head()->mutable_adagrad_slots(); }},
      {"training.placement 9", [](auto* r) { r->mutable_training()->set_placement(static_cast<v1::Placement>(9)); }},
      {"dtype 12", [](auto* r) { r->mutable_head()->set_weight_dtype(static_cast<v1::DataType>(12)); }},
      {"rate_scale is 1e+300", [](auto* r) { r->mutable_training()->mutable_sgd()->set_rate_scale(1e300); }},
      {"initial_deviation is nan", [](auto* r) { r->mutable_head()->set_initial_deviation(std::nan("")); }},
      {"step_deadline_ms -1", [](auto* r) { r->set_step_deadline_ms(-1); }},
      {"shard_wait_ms", [](auto* r) { r->set_shard_wait_ms(std::numeric_limits<int64_t>::max()); }},
      {"incarnation -5", [](auto* r) { r->set_incarnation(-5); }},
  };
  for (const auto& [text, spoil] : cases) {
    v1::OpenHeadRequest request = OpenRequest(0);
    request.mutable_head()->set_name("other");
    spoil(&request);
    const absl::Status status = stubs_[0]->Open(request).status();
    EXPECT_EQ(status.code(), kInvalid) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  EXPECT_EQ(stubs_[0]->Info("other").status().code(), absl::StatusCode::kNotFound);
  ExpectCommits(0);
}

// A step over all of 2^40 classes fits no memory. The corrected run is not kept from the name by the one that was refused.
TEST_F(BadInputTest, AHeadThatWasRefusedForItsSizeCanBeOpenedInAnother) {
  Start(1, 1);
  v1::OpenHeadRequest request = OpenRequest(0);
  request.mutable_head()->set_name("huge");
  request.mutable_head()->set_class_count(int64_t{1} << 40);
  EXPECT_EQ(stubs_[0]->Open(request).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(stubs_[0]->Info("huge").status().code(), absl::StatusCode::kNotFound);
  request.mutable_head()->set_class_count(1000);
  EXPECT_TRUE(stubs_[0]->Open(request).ok());
}

TEST_F(BadInputTest, ReservingMoreThanThereIsMemoryIsRefused) {
  Start(1, 1);
  const auto reserve = [&](const std::string& head, int64_t rows) {
    v1::ReserveRowsRequest request;
    request.set_head(head);
    request.set_row_count(rows);
    grpc::ClientContext context;
    v1::ReserveRowsResponse response;
    return FromGrpcStatus(stubs_[0]->admin().ReserveRows(&context, request, &response));
  };
  for (const int64_t rows : {int64_t{1} << 31, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(reserve("faces", rows).code(), absl::StatusCode::kResourceExhausted) << rows;
  }
  EXPECT_EQ(reserve("faces", -1).code(), kInvalid);
  EXPECT_EQ(reserve("nobody", 1).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(reserve("faces", 100).ok());
  ExpectCommits(0);
}

TEST_F(WorkerBadInputTest, MalformedFetchesAreRefused) {
  const std::vector<std::pair<std::string, std::function<void(v1::FetchStepRequest*)>>> cases = {
      {"labels: 5 bytes", [](auto* r) { r->set_labels("12345"); }},
      {"sample 1: label 500 is outside [0, 500)",
       [](auto* r) {
         r->set_labels(PackIds({1, 500}));
       }},
      {"learning_rate", [](auto* r) { r->mutable_parameters()->set_learning_rate(1e39); }},
      {"rank -1", [](auto* r) { r->set_rank(-1); }},
      {"step -1", [](auto* r) { r->mutable_key()->set_step(-1); }},
      {"attempt -1", [](auto* r) { r->mutable_key()->set_attempt(-1); }},
  };
  int attempt = 0;
  for (const auto& [text, spoil] : cases) {
    v1::FetchStepRequest request;
    *request.mutable_key() = Key(0, attempt++);
    request.set_labels(PackIds({5, 6}));
    spoil(&request);
    const absl::Status status = Call(0, &v1::CenterShard::Stub::FetchStep, request).status();
    EXPECT_EQ(status.code(), kInvalid) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  EXPECT_TRUE(Fetch(0, 0, attempt).ok());
}

TEST_F(WorkerBadInputTest, MalformedGradientsMoveNothing) {
  const std::vector<std::pair<std::string, std::function<void(v1::ApplyGradientsRequest*)>>> cases = {
      {"class_ids: ", [](auto* r) { r->mutable_class_ids()->pop_back(); }},
      {"class ids and", [](auto* r) { r->mutable_class_ids()->resize(8); }},
      {"where class", [](auto* r) { (*r->mutable_class_ids())[0] ^= 1; }},
      {"9 wide", [](auto* r) { r->mutable_gradients()->set_cols(9); }},
      {"bytes of data", [](auto* r) { r->mutable_gradients()->mutable_data()->resize(100); }},
      {"dtype 99", [](auto* r) { r->mutable_gradients()->set_dtype(static_cast<v1::DataType>(99)); }},
      {"class ids and 0 gradients", [](auto* r) { r->clear_gradients(); }},
      {"is not finite", [](auto* r) { r->mutable_gradients()->mutable_data()->replace(0, 4, "\xff\xff\xff\x7f"); }},
  };
  int attempt = 0;
  for (const auto& [text, spoil] : cases) {
    SCOPED_TRACE(text);
    const auto fetched0 = Fetch(0, 0, attempt), fetched1 = Fetch(1, 0, attempt);
    ASSERT_TRUE(fetched0.ok() && fetched1.ok()) << fetched0.status() << fetched1.status();
    ASSERT_TRUE(Merge(0, attempt).ok());
    v1::ApplyGradientsRequest bad = Gradients(*fetched0, 0, attempt, 0.5f);
    spoil(&bad);
    auto call0 = ApplyAsync(0, bad), call1 = ApplyAsync(1, Gradients(*fetched1, 0, attempt, 0.5f));
    const absl::Status status0 = call0.get().status(), status1 = call1.get().status();
    EXPECT_EQ(status0.code(), kInvalid) << status0;
    EXPECT_THAT(std::string(status0.message()), HasSubstr(text));
    EXPECT_EQ(status1.code(), kInvalid) << status1;
    ++attempt;
  }
  EXPECT_EQ(AllRows(), "");
}

}  // namespace
}  // namespace myriad
