// Evaluations: a number line of their own beside the steps.
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/step/step_engine.h"
#include "tests/server/step/answers.h"
#include "tests/testing/server/fake_cluster.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using Call = FakeCluster::Call;

Call Evaluation(int64_t number, std::string data = "data") {
  Call call(number, 0, 0, std::move(data));
  call.evaluate = true;
  return call;
}

TEST(EvaluationTest, NumbersIncreaseAndStartAnewAfterAStep) {
  FakeCluster cluster(Sized(2, 1));
  ExpectAllOk(cluster.SendAll(Evaluation(5)));
  ExpectAllOk(cluster.SendAll(Evaluation(5)));  // A repeat.
  EXPECT_EQ(cluster.evaluation_log(0).computed, 1);
  ExpectAllOk(cluster.SendAll(Evaluation(9)));
  EXPECT_EQ(cluster.Send(0, Evaluation(7))->status().code(), absl::StatusCode::kFailedPrecondition);
  ExpectAllOk(cluster.SendAll({0}));
  ExpectAllOk(cluster.SendAll(Evaluation(7)));
}

// A number that is used again after a step stands for other data; what was decided about the old must not be told of the new.
TEST(EvaluationTest, ANumberUsedAgainIsDecidedAnew) {
  for (int64_t number = 1; number < 4; ++number) {
    SCOPED_TRACE(absl::StrCat("evaluation ", number));
    FakeCluster cluster(Sized(3, 1));
    ExpectAllOk(cluster.SendAll(Evaluation(number, "old")));
    ExpectAllOk(cluster.SendAll({0}));
    // Only what the shards receive now counts: one of them receives something else.
    const auto a = cluster.Send(0, Evaluation(number, "new"));
    const auto b = cluster.Send(1, Evaluation(number, "new"));
    const auto c = cluster.Send(2, Evaluation(number, "other"));
    cluster.RunAll();
    for (const auto& answer : {a, b, c}) {
      EXPECT_EQ(answer->status().code(), absl::StatusCode::kFailedPrecondition) << answer->status();
      EXPECT_THAT(std::string(answer->status().message()), HasSubstr("different data"));
    }
    Call again = Evaluation(number, "new");
    again.attempt = 1;
    ExpectAllOk(cluster.SendAll(again));
  }
}

TEST(EvaluationTest, ANumberFarAwayIsRefusedAndUsesUpNone) {
  FakeCluster cluster(Sized(1, 1));
  for (int64_t number : {int64_t{1} << 62, int64_t{1} << 60, int64_t{1} << 21}) {
    EXPECT_FALSE(cluster.Send(0, Evaluation(number))->status().ok()) << number;
  }
  ExpectAllOk(cluster.SendAll(Evaluation(0)));
}

}  // namespace
}  // namespace myriad
