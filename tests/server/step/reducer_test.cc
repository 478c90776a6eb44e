#include "server/step/reducer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/server/fake_timer.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using Decision = StepOutcome::Decision;

// Peers that are well and never vote by themselves.
class WellPeers : public PeerClient {
 public:
  void Vote(int, const Ballot&, absl::Duration, OutcomeCallback) override { FAIL(); }
  void GetOutcome(int, const VoteKey&, int, absl::Duration, OutcomeCallback) override { FAIL(); }
  void CheckHead(int, int64_t, absl::Duration, std::function<void(absl::Status)> done) override { done(absl::OkStatus()); }
  std::string NameOf(int shard) const override { return absl::StrCat("shard ", shard); }
};

// Shard 0 of two, the reducer of steps 0, 2, 4, ...; the run begins with step 10.
class ReducerTest : public ::testing::Test {
 protected:
  using Outcome = std::shared_ptr<std::optional<StepOutcome>>;

  ReducerTest() {
    Reducer::Options options;
    options.shard_count = 2;
    options.shard_wait = absl::Seconds(10);
    options.vote_wait = absl::Seconds(30);
    options.next_step = 10;
    reducer_ = std::make_shared<Reducer>(options, &timer_, std::make_shared<WellPeers>());
  }
  // `cosine` tells one merge from another.
  Outcome Vote(int shard, const VoteKey& key, const std::string& digest = "digest", float cosine = 0.5f) {
    Ballot ballot;
    ballot.key = key;
    ballot.shard = shard;
    ballot.digest = digest;
    ballot.sample_count = 1;
    ballot.denominators.max_logit = {1.0f};
    ballot.denominators.sum_exp = {1.0};
    if (shard == 0) {
      ballot.denominators.target_index = {0};
      ballot.denominators.target_logit = {2.0};
      ballot.denominators.target_cosine = {cosine};
    }
    auto outcome = std::make_shared<std::optional<StepOutcome>>();
    reducer_->Vote(std::move(ballot), [outcome](StepOutcome told) { *outcome = std::move(told); });
    return outcome;
  }
  static Decision DecisionOf(const Outcome& outcome) { return outcome->has_value() ? (*outcome)->decision : Decision::kUnknown; }
  static VoteKey Step(int64_t step, int attempt = 0) { return {1, false, step, attempt, 0}; }
  static VoteKey Evaluation(int64_t number) { return {1, true, number, 0, 0}; }

  FakeTimer timer_;
  std::shared_ptr<Reducer> reducer_;
};

TEST_F(ReducerTest, AllShardsAndLaterRepeatsGetOneAnswer) {
  const Outcome first = Vote(0, Step(10));
  EXPECT_FALSE(first->has_value());
  const Outcome second = Vote(1, Step(10));
  for (const Outcome& outcome : {first, second, Vote(1, Step(10)), Vote(0, Step(10))}) {
    ASSERT_EQ(DecisionOf(outcome), Decision::kCommit);
    EXPECT_EQ((*outcome)->merged, (*first)->merged);
  }
  EXPECT_EQ(timer_.pending(), 0);
}

TEST_F(ReducerTest, AVoteOnOtherDataThanWasDecidedAboutGetsAbort) {
  Vote(0, Step(10));
  Vote(1, Step(10));
  const Outcome other = Vote(1, Step(10), "other");
  ASSERT_EQ(DecisionOf(other), Decision::kAbort);
  EXPECT_EQ((*other)->status.code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ReducerTest, EvaluationsAreForgottenWithTheNextStep) {
  Vote(0, Evaluation(12), "old", 0.25f);
  Vote(1, Evaluation(12), "old", 0.25f);
  reducer_->ForgetBefore(10);
  Vote(0, Evaluation(12), "old", 0.75f);  // Even if the data were the same: the rows have moved.
  const Outcome again = Vote(1, Evaluation(12), "old", 0.75f);
  ASSERT_EQ(DecisionOf(again), Decision::kCommit);
  EXPECT_EQ((*again)->merged->target_cosine_sum, 0.75);
}

TEST_F(ReducerTest, ARepeatTakesThePlaceOfTheVoteBefore) {
  const Outcome lost = Vote(1, Step(10));
  const Outcome repeat = Vote(1, Step(10));
  EXPECT_EQ(DecisionOf(lost), Decision::kUnknown);
  EXPECT_TRUE(lost->has_value()) << "who waited before has given up, and must not be kept";
  EXPECT_FALSE(repeat->has_value());
  Vote(0, Step(10));
  EXPECT_EQ(DecisionOf(repeat), Decision::kCommit);
}

TEST_F(ReducerTest, VotesFarFromWhereTheRunIsAreNotKept) {
  for (int64_t step : {0, 8, 14, 1000000}) {
    const Outcome stray = Vote(1, Step(step));
    ASSERT_EQ(DecisionOf(stray), Decision::kAbort) << step;
    EXPECT_EQ((*stray)->status.code(), absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_EQ(timer_.pending(), 0) << "nobody is probed for a stray vote";
  Vote(0, Step(12));  // A shard may have heard of COMMIT(11) before this one.
  EXPECT_EQ(DecisionOf(Vote(1, Step(12))), Decision::kCommit);
}

TEST_F(ReducerTest, AStrayVoteIsProbedForAWhileOnly) {
  const Outcome stray = Vote(1, Evaluation(1000));
  timer_.Advance(absl::Seconds(29), [] {});
  EXPECT_FALSE(stray->has_value());
  timer_.Advance(absl::Seconds(3), [] {});
  ASSERT_EQ(DecisionOf(stray), Decision::kAbort);
  EXPECT_THAT(std::string((*stray)->status.message()), HasSubstr("shard 0 did not vote on evaluation 1000 attempt 0 within 30s"));
  EXPECT_EQ(timer_.pending(), 0);
}

TEST_F(ReducerTest, MoreVotesThanAnyRunHasAreNotKept) {
  Outcome last;
  for (int64_t number = 0; number < 100000; ++number) {
    last = Vote(1, Evaluation(10 + number));
    if (last->has_value()) break;
  }
  ASSERT_EQ(DecisionOf(last), Decision::kAbort);
  EXPECT_EQ((*last)->status.code(), absl::StatusCode::kResourceExhausted);
}

// However many evaluations and attempts a run has, only the last ones are remembered.
TEST_F(ReducerTest, OutcomesThatAllShardsKnowAreForgotten) {
  for (int64_t number = 10; number < 20000; ++number) {
    Vote(0, Evaluation(number));
    ASSERT_EQ(DecisionOf(Vote(1, Evaluation(number))), Decision::kCommit) << number;
  }
  for (int chunk = 0; chunk < 20000; ++chunk) {
    VoteKey key = Step(10);
    key.chunk = chunk;
    Vote(0, key);
    ASSERT_EQ(DecisionOf(Vote(1, key)), Decision::kCommit) << chunk;
  }
}

}  // namespace
}  // namespace myriad
