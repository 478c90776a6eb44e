// A step waits for ranks, other shards and readers, and never for ever.
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/step/step_engine.h"
#include "tests/server/step/answers.h"
#include "tests/testing/server/fake_cluster.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Call = FakeCluster::Call;

TEST(StepDeadlineTest, TheDeadlineNamesTheMissingRanksAndTheNextAttempt) {
  FakeCluster cluster(Sized(2, 4));
  const auto waiting = cluster.Send(0, {0, 0});
  cluster.Send(0, {0, 2});
  for (int rank = 0; rank < 4; ++rank) cluster.Send(1, {0, rank});
  cluster.Advance(absl::Milliseconds(19999));
  EXPECT_FALSE(waiting->answered());
  cluster.Advance(absl::Milliseconds(1));
  const StepAbort abort = AbortOf(waiting->status());
  EXPECT_THAT(abort.missing_ranks, ElementsAre(1, 3));
  EXPECT_EQ(abort.next_attempt, 1);
  EXPECT_THAT(std::string(waiting->status().message()), HasSubstr("ranks 1, 3 of 4 did not come within 20s"));
  EXPECT_THAT(cluster.log(1).moved, IsEmpty()) << "shard 1 had all ranks and voted YES";
  EXPECT_FALSE(cluster.log(1).holds_rows);

  EXPECT_EQ(AbortOf(cluster.Send(0, {0, 0, 0})->status()).next_attempt, 1);
  EXPECT_THAT(AbortOf(cluster.Send(0, {0, 1, 0})->status()).missing_ranks, ElementsAre(1, 3)) << "who comes too late is told why";
  EXPECT_EQ(AbortOf(cluster.Send(1, {0, 0, 0})->status()).next_attempt, 1);
  ExpectAllOk(cluster.SendAll({0, 0, 1}));
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
  EXPECT_THAT(cluster.log(1).moved, ElementsAre(0));
}

TEST(StepDeadlineTest, CallsThatWaitForOthersThatNeverComeEndWithTheDeadline) {
  FakeCluster cluster(Sized(1, 1));
  const auto ahead = cluster.Send(0, {1});
  cluster.Advance(absl::Seconds(20));
  EXPECT_EQ(AbortOf(ahead->status()).next_attempt, 1);
  EXPECT_THAT(std::string(ahead->status().message()), HasSubstr("waited for step 0, for which no rank came"));
  Call second{0};
  second.phase = 1;
  second.phase_count = 2;
  const auto chunk = cluster.Send(0, second);
  cluster.Advance(absl::Seconds(20));
  EXPECT_THAT(AbortOf(chunk->status()).missing_ranks, ElementsAre(0));
  ExpectAllOk(cluster.SendAll({0, 0, 1}));
  ExpectAllOk(cluster.SendAll({1, 0, 1}));
  EXPECT_EQ(cluster.timer().pending(), 0);
}

// Step 0 was begun, so step 1 waits for it alone; then all that was there of step 0 is gone.
TEST(StepDeadlineTest, AStepAheadOfOneThatWasGivenUpEndsAsWell) {
  FakeCluster cluster(Sized(1, 2));
  const auto step = cluster.Send(0, {0});
  const auto ahead = cluster.Send(0, {1});
  cluster.Advance(absl::Seconds(20));
  EXPECT_THAT(AbortOf(step->status()).missing_ranks, ElementsAre(1));
  EXPECT_FALSE(ahead->answered());
  cluster.Advance(absl::Seconds(20));
  EXPECT_THAT(std::string(ahead->status().message()), HasSubstr("waited for step 0, for which no rank came"));
  EXPECT_EQ(cluster.timer().pending(), 0);
}

// Nothing waits for an answer between two chunks, but the rows are held.
TEST(StepDeadlineTest, AStepThatNobodyGoesOnWithLetsGoOfTheRows) {
  for (int begun : {0, 1}) {
    SCOPED_TRACE(absl::StrCat(begun, " ranks begin chunk 1"));
    FakeCluster cluster(Sized(2, 2));
    Call chunk{0};
    chunk.phase_count = 3;
    ExpectAllOk(cluster.SendAll(chunk));
    EXPECT_TRUE(cluster.log(0).holds_rows);
    chunk.phase = 1;
    cluster.Advance(absl::Seconds(59));
    EXPECT_TRUE(cluster.log(0).holds_rows) << "a network may take its time over a chunk";
    std::shared_ptr<FakeAnswer> first;
    if (begun == 1) {
      first = cluster.Send(0, chunk);
      cluster.Advance(absl::Seconds(19));
      EXPECT_TRUE(cluster.log(0).holds_rows);
    }
    cluster.Advance(absl::Seconds(1));
    EXPECT_FALSE(cluster.log(0).holds_rows);
    EXPECT_FALSE(cluster.log(1).holds_rows);
    bool free = false;
    cluster.gate(0).Acquire([&] { free = true; });
    EXPECT_TRUE(free);
    cluster.gate(0).Release();
    if (first != nullptr) {
      EXPECT_THAT(AbortOf(first->status()).missing_ranks, ElementsAre(1));
    }
    const absl::Status late = cluster.Send(1, chunk)->status();
    EXPECT_EQ(AbortOf(late).next_attempt, 1);
    EXPECT_THAT(AbortOf(late).missing_ranks, ElementsAre(0, 1));
    for (chunk.attempt = 1, chunk.phase = 0; chunk.phase < 3; ++chunk.phase) ExpectAllOk(cluster.SendAll(chunk));
    EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
    EXPECT_EQ(cluster.timer().pending(), 0);
  }
}

// The ranks die between their calls to two shards: the one has voted, the other has never heard of the step and says that it is well.
TEST(StepDeadlineTest, AVotedStepEndsThoughNoRankReachedAnotherShard) {
  FakeCluster cluster(Sized(3, 1));
  const auto answer0 = cluster.Send(0, {0});
  const auto answer1 = cluster.Send(1, {0});
  cluster.Advance(absl::Seconds(29));
  EXPECT_FALSE(answer0->answered());
  cluster.Advance(absl::Seconds(4));
  for (const auto& answer : {answer0, answer1}) {
    EXPECT_EQ(AbortOf(answer->status()).next_attempt, 1);
    EXPECT_THAT(std::string(answer->status().message()), HasSubstr("shard 2 did not vote on step 0 attempt 0 within 30s"));
  }
  for (int shard : {0, 1}) {
    EXPECT_FALSE(cluster.log(shard).holds_rows);
    EXPECT_THAT(cluster.log(shard).moved, IsEmpty());
  }
  EXPECT_EQ(cluster.timer().pending(), 0);
  ExpectAllOk(cluster.SendAll({0, 0, 1}));
}

TEST(StepDeadlineTest, AStepWaitsForReadersWhoAreAskedToYieldAfterItsDeadline) {
  FakeCluster cluster(Sized(1, 1));
  int asked = 0;
  RowGate::ReaderId reader = 0;
  cluster.gate(0).AcquireShared([&](RowGate::ReaderId id) { reader = id; }, [&] { ++asked; });
  const auto answer = cluster.Send(0, {0});
  cluster.Advance(absl::Milliseconds(19999));
  EXPECT_EQ(asked, 0);
  cluster.Advance(absl::Milliseconds(1));
  EXPECT_EQ(asked, 1) << "a reader delays a step for its deadline, no longer";
  EXPECT_FALSE(answer->answered());
  cluster.gate(0).ReleaseShared(reader);
  cluster.RunAll();
  EXPECT_TRUE(answer->status().ok());
  bool free = false;
  cluster.gate(0).Acquire([&] { free = true; });
  EXPECT_TRUE(free) << "the step keeps the rows";
}

}  // namespace
}  // namespace myriad
