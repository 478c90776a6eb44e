#include "client/shard_calls.h"

#include <atomic>
#include <string>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "tests/testing/client/fake_shard.h"

namespace myriad {
namespace {

using testing::FakeShard;
using HeadStepCalls = ShardCalls<v1::HeadStepRequest, v1::HeadStepResponse>;

void CallHeadStep(ShardClient& shard, grpc::ClientContext* rpc, const v1::HeadStepRequest* request, v1::HeadStepResponse* response,
                  PendingCalls::Done done) {
  shard.centers().async()->HeadStep(rpc, request, response, std::move(done));
}

CallPolicy Policy(absl::Duration deadline, absl::Duration shard_wait) {
  CallPolicy policy;
  policy.deadline = deadline;
  policy.shard_wait = shard_wait;
  return policy;
}

constexpr absl::Duration kLong = absl::Seconds(60);

absl::Status AnswerRank(grpc::ServerContext*, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) {
  response->mutable_statistics()->set_row_count(request.rank());
  return absl::OkStatus();
}

absl::Status NeverAnswer(grpc::ServerContext* context, const v1::HeadStepRequest&, v1::HeadStepResponse*) {
  return FakeShard::WaitForCancel(context);
}

TEST(ShardCallsTest, CallsAreInFlightTogetherAndAnswersKeepTheirOrder) {
  // Each shard answers only once the other has been asked too.
  std::atomic<int> asked{0};
  absl::Notification both_asked;
  FakeShard fakes[2];
  for (int k = 0; k < 2; ++k) {
    fakes[k].head_step = [&asked, &both_asked, k](grpc::ServerContext*, const v1::HeadStepRequest&, v1::HeadStepResponse* response) {
      if (++asked == 2) both_asked.Notify();
      if (!both_asked.WaitForNotificationWithTimeout(kLong)) return absl::DeadlineExceededError("the other shard was not asked");
      response->mutable_statistics()->set_row_count(10 + k);
      return absl::OkStatus();
    };
  }
  ShardClient first(0, fakes[0].address());
  ShardClient second(1, fakes[1].address());
  const v1::HeadStepRequest request;
  HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
  calls.Start(&first, &request);
  calls.Start(&second, &request);
  ASSERT_EQ(calls.Wait(), absl::OkStatus());
  EXPECT_EQ(calls.response(0).statistics().row_count(), 10);
  EXPECT_EQ(calls.response(1).statistics().row_count(), 11);
}

TEST(ShardCallsTest, UnavailableIsRetriedUntilItWorks) {
  FakeShard fake;
  std::atomic<int> asked{0};
  fake.head_step = [&asked](grpc::ServerContext* context, const v1::HeadStepRequest& request, v1::HeadStepResponse* response) {
    return ++asked < 4 ? absl::UnavailableError("starting") : AnswerRank(context, request, response);
  };
  ShardClient shard(0, fake.address());
  v1::HeadStepRequest request;
  request.set_rank(7);
  HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
  calls.Start(&shard, &request);
  ASSERT_EQ(calls.Wait(), absl::OkStatus());
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(calls.response(0).statistics().row_count(), 7);
}

TEST(ShardCallsTest, AShardThatIsGoneIsDataLossNamingItAndTheOthersAreCancelled) {
  FakeShard alive;
  std::atomic<bool> cancelled{false};
  alive.head_step = [&cancelled](grpc::ServerContext* context, const v1::HeadStepRequest&, v1::HeadStepResponse*) {
    absl::Status status = FakeShard::WaitForCancel(context);
    cancelled = true;
    return status;
  };
  FakeShard gone;
  const std::string gone_address = gone.address();
  gone.Stop();
  ShardClient shards[2] = {{0, alive.address()}, {1, gone_address}};
  const v1::HeadStepRequest request;
  const absl::Time start = absl::Now();
  {
    HeadStepCalls calls(CallHeadStep, Policy(kLong, absl::Milliseconds(300)));
    for (ShardClient& shard : shards) calls.Start(&shard, &request);
    const absl::Status status = calls.Wait();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_NE(status.message().find("shard 1 (" + gone_address + "): cannot be reached for 300ms"), std::string::npos) << status;
  }
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(300));
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  alive.Stop();  // Joins the handler.
  EXPECT_TRUE(cancelled);
}

// A shard whose disk fails is there all the same.
TEST(ShardCallsTest, WhatAShardAnswersIsToldAsItIsOnceItIsNotTriedAgain) {
  FakeShard fake;
  std::atomic<int> asked{0};
  fake.head_step = [&asked](grpc::ServerContext*, const v1::HeadStepRequest&, v1::HeadStepResponse*) {
    ++asked;
    return absl::UnavailableError("/store/heads/faces: Input/output error");
  };
  ShardClient shard(0, fake.address());
  const v1::HeadStepRequest request;
  HeadStepCalls calls(CallHeadStep, Policy(kLong, absl::Milliseconds(300)));
  calls.Start(&shard, &request);
  EXPECT_EQ(calls.Wait(), absl::UnavailableError("shard 0 (" + fake.address() + "): /store/heads/faces: Input/output error"));
  EXPECT_GT(asked, 1) << "it may pass";
}

TEST(ShardCallsTest, AShardThatDoesNotAnswerIsLostAfterTheDeadline) {
  FakeShard fake;
  fake.head_step = NeverAnswer;
  ShardClient shard(2, fake.address());
  const v1::HeadStepRequest request;
  HeadStepCalls calls(CallHeadStep, Policy(absl::Milliseconds(100), kLong));
  calls.Start(&shard, &request);
  const absl::Status status = calls.Wait();
  EXPECT_EQ(status, absl::DataLossError("shard 2 (" + fake.address() + "): no answer within 100ms"));
}

TEST(ShardCallsTest, AnErrorOfOneShardEndsTheWaitForTheOthers) {
  FakeShard bad;
  bad.head_step = [](grpc::ServerContext*, const v1::HeadStepRequest&, v1::HeadStepResponse*) {
    return absl::FailedPreconditionError("another incarnation");
  };
  FakeShard slow;
  slow.head_step = NeverAnswer;
  ShardClient shards[2] = {{0, slow.address()}, {1, bad.address()}};
  const v1::HeadStepRequest request;
  HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
  for (ShardClient& shard : shards) calls.Start(&shard, &request);
  EXPECT_EQ(calls.Wait(), absl::FailedPreconditionError("shard 1 (" + bad.address() + "): another incarnation"));
}

TEST(ShardCallsTest, AbortedWaitsForAllAndNamesTheHighestAttempt) {
  std::atomic<int> ended{0};
  absl::Notification first_ended;
  FakeShard fakes[3];
  for (int k = 0; k < 3; ++k) {
    fakes[k].head_step = [&ended, &first_ended, k](grpc::ServerContext*, const v1::HeadStepRequest&,
                                                   v1::HeadStepResponse*) -> absl::Status {
      // Shard 1, which answers first, names the lowest attempt.
      if (k != 1) first_ended.WaitForNotificationWithTimeout(kLong);
      ++ended;
      if (k == 1) first_ended.Notify();
      if (k == 0) return absl::OkStatus();
      return StepAbortedError("rank 1 did not come", {k == 1 ? 1 : 5, {1}});
    };
  }
  ShardClient shards[3] = {{0, fakes[0].address()}, {1, fakes[1].address()}, {2, fakes[2].address()}};
  const v1::HeadStepRequest request;
  HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
  for (ShardClient& shard : shards) calls.Start(&shard, &request);
  const absl::Status status = calls.Wait();
  EXPECT_EQ(ended, 3);
  StepAbort abort;
  ASSERT_TRUE(GetStepAbort(status, &abort)) << status;
  EXPECT_EQ(abort.next_attempt, 5);
  EXPECT_EQ(abort.missing_ranks, std::vector<int32_t>{1});
  EXPECT_NE(status.message().find("shard 2 ("), std::string::npos);
}

TEST(ShardCallsTest, DestructionCancelsWhatIsInFlight) {
  FakeShard fake;
  fake.head_step = NeverAnswer;
  ShardClient shard(0, fake.address());
  const v1::HeadStepRequest request;
  const absl::Time start = absl::Now();
  {
    HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
    calls.Start(&shard, &request);
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

TEST(ShardCallsTest, WireBytesAreThoseOfTheMessages) {
  FakeShard fake;
  fake.head_step = [](grpc::ServerContext*, const v1::HeadStepRequest&, v1::HeadStepResponse* response) {
    response->mutable_embedding_gradients()->set_data(std::string(1000, 'g'));
    return absl::OkStatus();
  };
  ShardClient shard(0, fake.address());
  v1::HeadStepRequest request;
  request.mutable_embeddings()->set_data(std::string(3000, 'e'));
  HeadStepCalls calls(CallHeadStep, Policy(kLong, kLong));
  calls.Start(&shard, &request);
  ASSERT_EQ(calls.Wait(), absl::OkStatus());
  EXPECT_GE(calls.WireBytes(), 4000 + 10);
  EXPECT_LE(calls.WireBytes(), 4000 + 10 + 20);
}

}  // namespace
}  // namespace myriad
