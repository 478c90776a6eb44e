#include "server/step/step_engine.h"

#include <new>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/step/answers.h"
#include "tests/testing/server/fake_cluster.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Call = FakeCluster::Call;

TEST(StepEngineTest, AStepCommitsOnEveryShardOnceAllRanksHaveCome) {
  FakeCluster cluster(Sized(3, 2));
  for (int64_t step = 0; step < 4; ++step) {
    const auto first = cluster.Send(0, {step, 0});
    cluster.RunAll();
    EXPECT_FALSE(first->answered());
    EXPECT_EQ(cluster.log(0).computed, step);
    ExpectAllOk(cluster.SendAll({step}));
    EXPECT_TRUE(first->status().ok());
  }
  for (int shard = 0; shard < 3; ++shard) EXPECT_THAT(cluster.log(shard).moved, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(cluster.timer().pending(), 0) << "deadlines and probes outlive their steps";
}

TEST(StepEngineTest, ARepeatInFlightJoinsAndComputesOnce) {
  FakeCluster cluster(Sized(1, 2));
  const auto call = cluster.Send(0, {0, 0});
  const auto repeat = cluster.Send(0, {0, 0});
  cluster.Send(0, {0, 1});
  cluster.RunAll();
  ASSERT_TRUE(call->status().ok());
  ASSERT_TRUE(repeat->status().ok());
  EXPECT_EQ(call->reply(), repeat->reply());
  EXPECT_EQ(cluster.log(0).computed, 1);
}

TEST(StepEngineTest, ARepeatOfTheLastCommittedStepGetsTheSameReplyWhateverItsAttempt) {
  FakeCluster cluster(Sized(2, 1));
  const auto answers = cluster.SendAll({0});
  for (int attempt : {0, 1, 7}) {
    const auto repeat = cluster.Send(0, {0, 0, attempt});
    ASSERT_TRUE(repeat->status().ok()) << repeat->status();
    EXPECT_EQ(repeat->reply(), answers[0]->reply());
  }
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
}

TEST(StepEngineTest, OtherDataUnderTheSameKeyIsRefused) {
  FakeCluster cluster(Sized(1, 2));
  cluster.Send(0, {0, 0});
  EXPECT_EQ(cluster.Send(0, {0, 0, 0, "other"})->status().code(), absl::StatusCode::kFailedPrecondition);
  cluster.Send(0, {0, 1});
  cluster.RunAll();
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0)) << "the refusal must not disturb the step";
  EXPECT_EQ(cluster.Send(0, {0, 0, 1, "other"})->status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(StepEngineTest, StepsThatAreOverOrTooEarlyAreRefusedNamingBoth) {
  FakeCluster cluster(Sized(1, 1));
  for (int64_t step = 0; step < 3; ++step) cluster.SendAll({step});
  const absl::Status old = cluster.Send(0, {0})->status();
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(old.message()), HasSubstr("step 0 is over; the last committed step is 2"));
  const absl::Status early = cluster.Send(0, {5})->status();
  EXPECT_EQ(early.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(early.message()), HasSubstr("is at step 3; step 5"));
}

TEST(StepEngineTest, OneStepAheadIsQueuedAndComputedAfterwards) {
  FakeCluster cluster(Sized(1, 2));
  cluster.Send(0, {0, 0});
  const auto ahead0 = cluster.Send(0, {1, 0});
  const auto ahead1 = cluster.Send(0, {1, 1});
  EXPECT_EQ(cluster.Send(0, {2, 0})->status().code(), absl::StatusCode::kFailedPrecondition);
  cluster.Advance(absl::Seconds(19));
  EXPECT_FALSE(ahead0->answered());
  cluster.Send(0, {0, 1});
  cluster.RunAll();
  EXPECT_TRUE(ahead0->status().ok());
  EXPECT_TRUE(ahead1->status().ok());
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0, 1));
}

TEST(StepEngineTest, AHigherAttemptDropsAnOpenStep) {
  FakeCluster cluster(Sized(1, 2));
  const auto waiting = cluster.Send(0, {0, 0, 0});
  const auto newer = cluster.Send(0, {0, 1, 3, "new"});
  EXPECT_EQ(AbortOf(waiting->status()).next_attempt, 1);
  EXPECT_EQ(AbortOf(cluster.Send(0, {0, 0, 2})->status()).next_attempt, 3);
  cluster.Send(0, {0, 0, 3, "new"});
  cluster.RunAll();
  EXPECT_TRUE(newer->status().ok());
}

// Shard 1 has voted on attempt 0 and waits for shard 2, which no rank has reached.
TEST(StepEngineTest, AHigherAttemptWaitsForTheOutcomeOfAVotedStep) {
  for (const bool commits : {true, false}) {
    SCOPED_TRACE(commits ? "commits" : "aborts");
    FakeCluster cluster(Sized(3, 1));
    const auto first = cluster.Send(1, {0, 0, 0});
    cluster.Send(0, {0, 0, 0});
    cluster.RunAll();
    const auto higher = cluster.Send(1, {0, 0, 1});
    cluster.RunAll();
    EXPECT_FALSE(higher->answered());
    EXPECT_FALSE(first->answered());
    if (commits) {
      cluster.Send(2, {0, 0, 0});
      cluster.RunAll();
      ASSERT_TRUE(first->status().ok());
      ASSERT_TRUE(higher->status().ok()) << higher->status();
      EXPECT_EQ(first->reply(), higher->reply());
      EXPECT_THAT(cluster.log(1).moved, ElementsAre(0));
    } else {
      // Shard 2 hears of attempt 1 alone, and so will never vote on attempt 0.
      cluster.Send(2, {0, 0, 1});
      cluster.RunAll();
      EXPECT_EQ(AbortOf(first->status()).next_attempt, 1);
      cluster.Send(0, {0, 0, 1});
      cluster.RunAll();
      EXPECT_TRUE(higher->status().ok()) << higher->status();
    }
    for (int shard = 0; shard < 3; ++shard) EXPECT_THAT(cluster.log(shard).moved, ElementsAre(0));
  }
}

TEST(StepEngineTest, BadNumbersOnOneShardMoveNothingAnywhere) {
  for (int bad = 0; bad < 3; ++bad) {
    SCOPED_TRACE(absl::StrCat("bad shard ", bad));
    FakeCluster cluster(Sized(3, 2));
    cluster.log(bad).compute = [](const StepWork::Phase&) { return absl::InvalidArgumentError("row 7 is not finite"); };
    for (const auto& answer : cluster.SendAll({0})) {
      EXPECT_EQ(answer->status().code(), absl::StatusCode::kInvalidArgument) << answer->status();
      EXPECT_THAT(std::string(answer->status().message()), HasSubstr("row 7"));
    }
    for (int shard = 0; shard < 3; ++shard) {
      EXPECT_THAT(cluster.log(shard).moved, IsEmpty());
      EXPECT_FALSE(cluster.log(shard).holds_rows);
    }
    cluster.log(bad).compute = nullptr;
    ExpectAllOk(cluster.SendAll({0, 0, 1}));
    for (int shard = 0; shard < 3; ++shard) EXPECT_THAT(cluster.log(shard).moved, ElementsAre(0));
  }
}

TEST(StepEngineTest, ACallOfNoUseRefusesTheStepForAllRanksAtOnce) {
  FakeCluster cluster(Sized(2, 3));
  const auto waiting = cluster.Send(0, {0, 0});
  Call bad{0, 1};
  bad.invalid = absl::InvalidArgumentError("rank 1: rows are 3 wide");
  EXPECT_EQ(cluster.Send(0, bad)->status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(waiting->status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(StepEngineTest, ExceptionsOfTheWorkBecomeStatuses) {
  FakeCluster cluster(Sized(1, 1));
  cluster.log(0).compute = [](const StepWork::Phase&) -> absl::Status { throw std::runtime_error("sizes differ\nframe 1"); };
  const absl::Status status = cluster.SendAll({0})[0]->status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message(), "sizes differ");
}

TEST(StepEngineTest, ShardsThatReceivedDifferentDataRefuseTheStep) {
  FakeCluster cluster(Sized(2, 1));
  const auto a = cluster.Send(0, {0, 0, 0, "a"});
  const auto b = cluster.Send(1, {0, 0, 0, "b"});
  cluster.RunAll();
  for (const auto& answer : {a, b}) {
    EXPECT_EQ(answer->status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(answer->status().message()), HasSubstr("different data"));
  }
  EXPECT_THAT(cluster.log(0).moved, IsEmpty());
  EXPECT_THAT(cluster.log(1).moved, IsEmpty());
}

TEST(StepEngineTest, RanksThatDisagreeOnTheRateAreRefusedNamingBothValues) {
  FakeCluster cluster(Sized(1, 2));
  const auto first = cluster.Send(0, {0, 0});
  Call other{0, 1};
  other.learning_rate = 0.25;
  const auto second = cluster.Send(0, other);
  for (const auto& answer : {first, second}) {
    EXPECT_EQ(answer->status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(answer->status().message()), HasSubstr("rank 0 sent learning rate 0.1, rank 1 sent 0.25"));
  }
}

TEST(StepEngineTest, ChunksMoveRowsAfterTheLastAndRepeatsOfEachAreKept) {
  FakeCluster cluster(Sized(2, 2));
  Call chunk0{0}, chunk1{0};
  chunk0.phase_count = chunk1.phase_count = 2;
  chunk1.phase = 1;
  const auto first = cluster.SendAll(chunk0);
  ExpectAllOk(first);
  EXPECT_THAT(cluster.log(0).moved, IsEmpty());
  EXPECT_EQ(cluster.Send(0, chunk0)->reply(), first[0]->reply());
  ExpectAllOk(cluster.SendAll(chunk1));
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
  EXPECT_THAT(cluster.log(1).moved, ElementsAre(0));
  EXPECT_EQ(cluster.Send(0, chunk0)->reply(), first[0]->reply());
}

TEST(StepEngineTest, AnAbortInALaterChunkBeginsTheStepAnew) {
  FakeCluster cluster(Sized(2, 2));
  Call chunk0{0}, chunk1{0};
  chunk0.phase_count = chunk1.phase_count = 2;
  chunk1.phase = 1;
  ExpectAllOk(cluster.SendAll(chunk0));
  const auto waiting = cluster.Send(0, chunk1);
  cluster.Advance(absl::Seconds(20));
  EXPECT_THAT(AbortOf(waiting->status()).missing_ranks, ElementsAre(1));
  EXPECT_FALSE(cluster.log(0).holds_rows);
  EXPECT_EQ(cluster.log(0).abandoned, 1);
  chunk0.attempt = chunk1.attempt = 1;
  ExpectAllOk(cluster.SendAll(chunk0));
  ExpectAllOk(cluster.SendAll(chunk1));
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
  EXPECT_THAT(cluster.log(1).moved, ElementsAre(0));
}

// Step 1's reducer is shard 1.
TEST(StepEngineTest, TheReducerLostBeforeItsAnswerLeavesTheStepUntakenAndNamesIt) {
  FakeCluster cluster(Sized(3, 1));
  ExpectAllOk(cluster.SendAll({0}));
  cluster.HoldAnswers(1, 0);
  cluster.HoldAnswers(1, 2);
  const auto answer0 = cluster.Send(0, {1});
  const auto answer2 = cluster.Send(2, {1});
  cluster.RunAll();
  cluster.Kill(1);
  cluster.Advance(absl::Seconds(9));
  EXPECT_FALSE(answer0->answered());
  cluster.Advance(absl::Seconds(12));
  for (int shard : {0, 2}) {
    const absl::Status status = (shard == 0 ? answer0 : answer2)->status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("shard 1, the reducer of step 1"));
    EXPECT_THAT(cluster.log(shard).moved, ElementsAre(0));
    EXPECT_FALSE(cluster.log(shard).holds_rows);
    EXPECT_EQ(cluster.Send(shard, {1, 0, 1})->status().code(), absl::StatusCode::kDataLoss) << "the run must end";
  }
}

TEST(StepEngineTest, TheReducerLostAfterAnsweringOneShardMovesAllLivingOnes) {
  FakeCluster cluster(Sized(4, 1));
  cluster.HoldAnswers(0, 2);
  cluster.HoldAnswers(0, 3);
  const auto answers = cluster.SendAll({0});
  EXPECT_TRUE(answers[1]->status().ok());
  EXPECT_FALSE(answers[2]->answered());
  cluster.Kill(0);
  cluster.Advance(absl::Seconds(21));
  for (int shard : {1, 2, 3}) EXPECT_THAT(cluster.log(shard).moved, ElementsAre(0)) << shard;
  for (int shard : {2, 3}) EXPECT_EQ(answers[shard]->status().code(), absl::StatusCode::kDataLoss);
}

// Shard 2 loses the reducer and is told UNKNOWN by shard 1, which still waits. The reducer's COMMIT must not move shard 1 then.
TEST(StepEngineTest, UnknownIsAPromiseToTakeNoCommit) {
  FakeCluster cluster(Sized(3, 1));
  cluster.HoldAnswers(0, 1);
  cluster.HoldAnswers(0, 2);
  const auto answers = cluster.SendAll({0});
  EXPECT_EQ(cluster.engine(1).GetOutcome({1, false, 0, 0, 0})->decision, StepOutcome::Decision::kUnknown);
  cluster.RestoreAnswers(0, 1);
  cluster.RunAll();
  EXPECT_EQ(answers[1]->status().code(), absl::StatusCode::kDataLoss) << answers[1]->status();
  EXPECT_THAT(cluster.log(1).moved, IsEmpty());
  EXPECT_FALSE(cluster.log(1).holds_rows);
}

TEST(StepEngineTest, ADecidedOutcomeIsTold) {
  FakeCluster cluster(Sized(2, 1));
  ExpectAllOk(cluster.SendAll({0}));
  EXPECT_EQ(cluster.engine(1).GetOutcome({1, false, 0, 0, 0})->decision, StepOutcome::Decision::kCommit);
  cluster.log(0).compute = [](const StepWork::Phase&) { return absl::InvalidArgumentError("bad"); };
  cluster.SendAll({1});
  EXPECT_EQ(cluster.engine(0).GetOutcome({1, false, 1, 0, 0})->decision, StepOutcome::Decision::kAbort);
}

// A promise for a step that nobody can have voted on would end the run once it comes there.
TEST(StepEngineTest, OutcomesOfStepsFarAwayAreNotPromised) {
  FakeCluster cluster(Sized(3, 1));
  for (int64_t step = 0; step < 5; ++step) ExpectAllOk(cluster.SendAll({step}));
  for (int64_t step : {3, 7, 1000000}) {
    const auto outcome = cluster.engine(0).GetOutcome({1, false, step, 0, 0});
    EXPECT_EQ(outcome.status().code(), absl::StatusCode::kFailedPrecondition) << "step " << step;
  }
  for (int64_t step = 5; step < 9; ++step) ExpectAllOk(cluster.SendAll({step}));
  absl::Status status;
  for (int attempt = 0; status.ok(); ++attempt) {
    ASSERT_LT(attempt, 1 << 20);
    status = cluster.engine(0).GetOutcome({1, false, 9, 7 + attempt, 0}).status();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  ExpectAllOk(cluster.SendAll({9}));
}

TEST(StepEngineTest, AVoterThatCannotBeReachedEndsTheStepWithDataLossNamingIt) {
  FakeCluster cluster(Sized(3, 1));
  cluster.Kill(2);
  const auto answer0 = cluster.Send(0, {0});
  const auto answer1 = cluster.Send(1, {0});
  cluster.Advance(absl::Seconds(15));
  for (const auto& answer : {answer0, answer1}) {
    EXPECT_EQ(answer->status().code(), absl::StatusCode::kDataLoss) << answer->status();
    EXPECT_THAT(std::string(answer->status().message()), HasSubstr("shard 2 did not vote"));
  }
  EXPECT_THAT(cluster.log(0).moved, IsEmpty());
  EXPECT_THAT(cluster.log(1).moved, IsEmpty());
}

TEST(StepEngineTest, AReducerThatComesBackInTimeIsFoundAgain) {
  FakeCluster cluster(Sized(2, 1));
  cluster.HoldAnswers(0, 1);
  const auto answers = cluster.SendAll({0});
  EXPECT_TRUE(answers[0]->status().ok());
  cluster.Advance(absl::Seconds(9));
  cluster.RestoreAnswers(0, 1);
  cluster.RunAll();
  EXPECT_TRUE(answers[1]->status().ok()) << answers[1]->status();
}

TEST(StepEngineTest, ClosingDropsWhatIsOpenAndWaitsForWhatIsVoted) {
  FakeCluster cluster(Sized(3, 1));
  const auto voted = cluster.Send(1, {0});
  const auto open = cluster.Send(1, {1});
  cluster.Send(0, {0});
  cluster.RunAll();
  bool closed = false;
  cluster.engine(1).Close(absl::FailedPreconditionError("another run"), [&] { closed = true; });
  cluster.RunAll();
  EXPECT_EQ(open->status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(closed);
  EXPECT_EQ(cluster.log(1).released, 0);
  cluster.Send(2, {0});
  cluster.RunAll();
  EXPECT_TRUE(closed);
  EXPECT_EQ(cluster.log(1).released, 1);
  EXPECT_TRUE(voted->status().ok());
  EXPECT_THAT(cluster.log(1).moved, ElementsAre(0));
  EXPECT_EQ(cluster.Send(1, {1})->status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(StepEngineTest, ShutdownAnswersTheCallersOfAVotedStep) {
  FakeCluster cluster(Sized(2, 1));
  const auto voted = cluster.Send(1, {0});
  cluster.RunAll();
  cluster.engine(1).Shutdown(absl::UnavailableError("stopping"));
  EXPECT_EQ(voted->status().code(), absl::StatusCode::kUnavailable);
}

// The outcome cannot be taken back: other shards have moved.
TEST(StepEngineTest, AStepThatCannotBeAppliedAfterItsCommitIsTold) {
  FakeCluster cluster(Sized(2, 1));
  cluster.log(1).settle = []() -> absl::Status { throw std::bad_alloc(); };
  cluster.SendAll({0});
  EXPECT_THAT(cluster.log(0).moved, ElementsAre(0));
  EXPECT_TRUE(cluster.torn(0).ok());
  EXPECT_EQ(cluster.torn(1).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(cluster.torn(1).message()), HasSubstr("step 0 attempt 0 could not be applied: out of memory"));
  EXPECT_EQ(cluster.Send(1, {1})->status().code(), absl::StatusCode::kDataLoss);
}

TEST(StepEngineTest, AChunkOfNoUseLeavesNoStepBehind) {
  FakeCluster cluster(Sized(1, 1));
  Call early{0};
  early.phase = 2;
  early.phase_count = 3;
  EXPECT_EQ(cluster.Send(0, early)->status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cluster.engine(0).statistics().open_steps, 0);
  ExpectAllOk(cluster.SendAll({0}));
}

TEST(StepEngineTest, RanksOutOfRangeAreRefusedAlone) {
  FakeCluster cluster(Sized(1, 2));
  for (int rank : {-1, 2, 1 << 30}) EXPECT_EQ(cluster.Send(0, {0, rank})->status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cluster.Send(0, {0, 0, -1})->status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(cluster.Send(0, {-1, 0})->status().code(), absl::StatusCode::kInvalidArgument);
  ExpectAllOk(cluster.SendAll({0}));
}

}  // namespace
}  // namespace myriad
