// A shard in one thread that keeps its heads on disk: saving them and going back.
#include <ATen/Functions.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/shard.h"
#include "tests/testing/server/fake_executor.h"
#include "tests/testing/server/fake_timer.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One shard alone votes with itself.
class NoPeers : public PeerClient {
 public:
  void Vote(int, const Ballot&, absl::Duration, OutcomeCallback) override { FAIL(); }
  void GetOutcome(int, const VoteKey&, int, absl::Duration, OutcomeCallback) override { FAIL(); }
  void CheckHead(int, int64_t, absl::Duration, std::function<void(absl::Status)>) override { FAIL(); }
  std::string NameOf(int) const override { return "shard 0 (here)"; }
};

constexpr int64_t kClasses = 50;
constexpr int kDim = 8;

HeadSpec Head() {
  HeadSpec head;
  head.name = "faces";
  head.class_count = kClasses;
  head.embedding_dim = kDim;
  return head;
}

// A server's life: from its start over a store to its stop, clean or not.
class Server {
 public:
  explicit Server(const std::string& store) : shard_(Options(store), &executor_, &timer_, Connect) {
    const absl::Status status = shard_.OpenStored();
    EXPECT_TRUE(status.ok()) << status;
  }
  ~Server() {
    shard_.Shutdown(absl::UnavailableError("over"));
    executor_.RunAll();
    const absl::Status closed = killed_ ? absl::OkStatus() : shard_.CloseStored();
    EXPECT_TRUE(closed.ok()) << closed;
  }
  void Kill() { killed_ = true; }

  absl::StatusOr<int64_t> Open(int64_t incarnation, std::optional<int64_t> expected_step = std::nullopt, bool accept_mixed_steps = false) {
    SessionOptions session;
    session.incarnation = incarnation;
    session.shard_addresses = {"here"};
    session.training.sampler.kind = SamplerOptions::Kind::kAll;
    session.expected_step = expected_step;
    session.accept_mixed_steps = accept_mixed_steps;
    return Wait<int64_t>([&](auto done) {
      shard_.Open(Head(), session, [done](const absl::StatusOr<HeadShard::Info>& info) {
        done(info.ok() ? absl::StatusOr<int64_t>(info->committed_steps) : info.status());
      });
    });
  }
  absl::Status Step(int64_t incarnation, int64_t step) {
    StepCall call;
    call.step = step;
    call.phase_count = 1;
    call.has_learning_rate = true;
    call.learning_rate = 0.1;
    call.part = HeadStepPart{at::full({1, kDim}, 0.5 + static_cast<double>(step), at::kFloat), {step % kClasses}, {}};
    const std::shared_ptr<TrainingSession> session = *(*shard_.Find("faces"))->Session(incarnation);
    std::optional<absl::Status> status;
    call.done = [&](const absl::StatusOr<std::shared_ptr<const RankReply>>& reply) { status = reply.status(); };
    session->train().Call(std::move(call));
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  absl::Status Save(int64_t incarnation, int64_t step, const std::string& save) {
    std::optional<absl::Status> status;
    shard_.SaveHead("faces", incarnation, step, save, [&](const absl::Status& result) { status = result; });
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  absl::StatusOr<int64_t> Restore(const std::string& save, const HeadSpec& head = Head(), int index = 0, int count = 1) {
    return Wait<int64_t>([&](auto done) { shard_.RestoreHead(head, index, count, save, done); });
  }
  absl::Status Drop(const std::string& save) {
    std::optional<absl::Status> status;
    shard_.DropSave("faces", save, [&](const absl::Status& result) { status = result; });
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  std::vector<std::string> Saves() {
    std::vector<std::string> names;
    auto entries = Wait<std::vector<ShardSaves::Entry>>([&](auto done) { shard_.ListSaves(done); });
    EXPECT_TRUE(entries.ok()) << entries.status();
    for (const ShardSaves::Entry& entry : *entries) names.push_back(absl::StrCat(entry.save, entry.state.ok() ? "" : " (damaged)"));
    return names;
  }
  absl::Status Grow(int64_t class_count, int64_t committed_steps, bool check_only = false) {
    std::optional<absl::Status> status;
    (*shard_.Find("faces"))->Grow(Head(), class_count, committed_steps, check_only, [&](const absl::Status& result) { status = result; });
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  // Weights and slots of all classes.
  at::Tensor Rows() {
    std::vector<int64_t> ids;
    for (int64_t c = 0; c < kClasses; ++c) ids.push_back(c);
    auto rows = Wait<HeadShard::Rows>([&](auto done) { (*shard_.Find("faces"))->Read(ids, /*with_slots=*/true, done); });
    EXPECT_TRUE(rows.ok()) << rows.status();
    return at::cat({rows->weights, rows->slots}, 1);
  }
  Shard& shard() { return shard_; }

 private:
  static Shard::Options Options(const std::string& store) {
    Shard::Options options;
    options.store = store;
    options.memory_bytes = store.empty() ? 0 : int64_t{512} << 20;
    options.available_memory = [] { return int64_t{1} << 40; };
    return options;
  }
  static std::shared_ptr<PeerClient> Connect(const std::string&, const std::vector<std::string>&) { return std::make_shared<NoPeers>(); }
  template <typename T, typename Call>
  absl::StatusOr<T> Wait(Call call) {
    absl::StatusOr<T> result = absl::UnknownError("no answer");
    call([&](absl::StatusOr<T> answer) { result = std::move(answer); });
    executor_.RunAll();
    return result;
  }

  bool killed_ = false;
  FakeExecutor executor_;
  FakeTimer timer_;
  Shard shard_;
};

TEST(ShardSavesTest, AHeadGoesBackToItsSaveWithEveryRow) {
  TempDir dir;
  at::Tensor saved;
  {
    Server server(dir.path());
    ASSERT_EQ(*server.Open(1), 0);
    for (int64_t step : {0, 1, 2}) ASSERT_TRUE(server.Step(1, step).ok());
    const absl::Status status = server.Save(1, 3, "three");
    ASSERT_TRUE(status.ok()) << status;
    saved = server.Rows();
    for (int64_t step : {3, 4}) ASSERT_TRUE(server.Step(1, step).ok());
    EXPECT_FALSE(at::equal(server.Rows(), saved));
    server.Kill();
  }
  Server server(dir.path());
  const absl::StatusOr<int64_t> restored = server.Restore("three");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(*restored, 3);
  EXPECT_TRUE(at::equal(server.Rows(), saved));
  ASSERT_EQ(*server.Open(2, 3), 3) << "a save is of one step: nothing is mixed any more";
  EXPECT_TRUE(server.Step(2, 3).ok());
  // The save has not moved with the head.
  ASSERT_EQ(*server.Restore("three"), 3);
  EXPECT_TRUE(at::equal(server.Rows(), saved));
  EXPECT_EQ(server.Open(2, 3).status().code(), absl::StatusCode::kFailedPrecondition) << "calls of the run before must not reach it";
  EXPECT_TRUE(server.Open(3, 3).ok());
}

TEST(ShardSavesTest, AStepTakenAnewGivesTheSameRows) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  ASSERT_TRUE(server.Save(1, 1, "one").ok());
  ASSERT_TRUE(server.Step(1, 1).ok());
  const at::Tensor first = server.Rows();
  ASSERT_TRUE(server.Restore("one").ok());
  ASSERT_TRUE(server.Open(2, 1).ok());
  ASSERT_TRUE(server.Step(2, 1).ok());
  EXPECT_TRUE(at::equal(server.Rows(), first));
}

TEST(ShardSavesTest, ASaveIsOfTheStepThatItsRunStandsAt) {
  TempDir dir;
  Server server(dir.path());
  EXPECT_TRUE(absl::IsDataLoss(server.Save(1, 0, "none")));
  ASSERT_TRUE(server.Open(5).ok());
  ASSERT_TRUE(server.Step(5, 0).ok());
  for (int64_t step : {0, 2}) {
    const absl::Status refused = server.Save(5, step, "a");
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("has committed 1 steps on shard 0; the save is of step " + std::to_string(step)));
  }
  EXPECT_EQ(server.Save(4, 1, "a").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::IsInvalidArgument(server.Save(5, 1, "../a")));
  EXPECT_THAT(server.Saves(), IsEmpty());
  ASSERT_TRUE(server.Save(5, 1, "a").ok());
  EXPECT_TRUE(server.Save(5, 1, "a").ok()) << "a repeat does nothing";
  ASSERT_TRUE(server.Step(5, 1).ok());
  const absl::Status other = server.Save(5, 2, "a");
  EXPECT_THAT(std::string(other.message()), HasSubstr("there already, of step 1 and incarnation 5; the call has step 2"));
  EXPECT_THAT(server.Saves(), ElementsAre("a"));
}

TEST(ShardSavesTest, AnotherHeadOrPlaceIsNotPutThere) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  ASSERT_TRUE(server.Save(1, 1, "a").ok());
  const at::Tensor rows = server.Rows();
  EXPECT_TRUE(absl::IsNotFound(server.Restore("b").status()));
  HeadSpec wide = Head();
  wide.embedding_dim = 16;
  EXPECT_THAT(std::string(server.Restore("a", wide).status().message()), HasSubstr("embedding_dim is 8 at the save and 16 at the call"));
  EXPECT_THAT(std::string(server.Restore("a", Head(), 1, 2).status().message()),
              HasSubstr("is of shard 0 of 1; the call says shard 1 of 2"));
  EXPECT_TRUE(at::equal(server.Rows(), rows));
  EXPECT_TRUE(server.Step(1, 1).ok()) << "the run was not ended for it";
}

TEST(ShardSavesTest, ADamagedSaveCostsNothing) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  ASSERT_TRUE(server.Save(1, 1, "a").ok());
  const at::Tensor rows = server.Rows();
  std::filesystem::remove(dir.File("saves/a/faces/rows/CURRENT"));
  EXPECT_FALSE(server.Restore("a").ok());
  EXPECT_TRUE(at::equal(server.Rows(), rows));
  EXPECT_TRUE(server.Step(1, 1).ok());
}

TEST(ShardSavesTest, ADamagedHeadGoesBackToItsSaveAndKeepsNoOtherFromItsWork) {
  TempDir dir;
  at::Tensor saved;
  {
    Server server(dir.path());
    HeadSpec other = Head();
    other.name = "other";
    ASSERT_TRUE(server.shard().FindOrCreate(other, 0, 1).ok());
    ASSERT_TRUE(server.Open(1).ok());
    ASSERT_TRUE(server.Step(1, 0).ok());
    ASSERT_TRUE(server.Save(1, 1, "a").ok());
    saved = server.Rows();
    server.Kill();
  }
  std::filesystem::remove(dir.File("heads/faces/CURRENT"));
  Server server(dir.path());
  EXPECT_TRUE(server.shard().Find("other").ok());
  for (const absl::Status& status : {server.shard().Find("faces").status(), server.Open(2).status()}) {
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("heads/faces"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("--resume"));
  }
  const absl::StatusOr<int64_t> restored = server.Restore("a");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_TRUE(at::equal(server.Rows(), saved));
  EXPECT_TRUE(server.Open(2, 1).ok());
}

TEST(ShardSavesTest, AHeadThatHasGrownDoesNotGoBackToFewerClasses) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  ASSERT_TRUE(server.Save(1, 1, "a").ok());
  ASSERT_TRUE(server.Grow(80, 1).ok());
  const absl::Status refused = server.Restore("a").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("has grown to 80 classes; save a has 50"));
  EXPECT_EQ((*server.shard().Find("faces"))->spec().class_count, 80);
}

TEST(ShardSavesTest, ClassesThatMemoryCannotKeepTrackOfAreRefusedBeforehand) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  for (const bool check_only : {true, false}) {
    const absl::Status refused = server.Grow(1000000000, 0, check_only);
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("give at least"));
  }
  EXPECT_EQ((*server.shard().Find("faces"))->spec().class_count, kClasses);
}

// Each has a share of --memory: one more would leave too little for all.
TEST(ShardSavesTest, AHeadThatWouldStarveTheOthersIsRefusedAndTheyGoOn) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  absl::Status refused;
  for (int i = 0; i < 20 && refused.ok(); ++i) {
    HeadSpec head = Head();
    head.name = absl::StrCat("other-", i);
    refused = server.shard().FindOrCreate(head, 0, 1).status();
  }
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("would leave the others"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("head 'faces'"));
  EXPECT_TRUE(server.Step(1, 0).ok());
}

TEST(ShardSavesTest, AHeadThatDoesNotFitItsShareIsToldThatItIsOne) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  HeadSpec head = Head();
  head.name = "large";
  head.class_count = 1000000000;
  const absl::Status refused = server.shard().FindOrCreate(head, 0, 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("give at least"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2 heads share --memory, which must be at least"));
  EXPECT_TRUE(server.Step(1, 0).ok());
}

TEST(ShardSavesTest, ASaveThatCannotBeReadHidesNoOther) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  for (const std::string save : {"a", "b", "c"}) ASSERT_TRUE(server.Save(1, 1, save).ok());
  WriteText(dir.File("saves/b/faces/state"), "\xff\xff");
  EXPECT_THAT(server.Saves(), ElementsAre("a", "b (damaged)", "c"));
}

TEST(ShardSavesTest, ASaveThatWasCutOffIsNoSaveAndIsMadeAnew) {
  TempDir dir;
  Server server(dir.path());
  ASSERT_TRUE(server.Open(1).ok());
  ASSERT_TRUE(server.Step(1, 0).ok());
  std::filesystem::create_directories(dir.File("saves/a/faces/rows"));
  WriteText(dir.File("saves/a/faces/rows/CURRENT"), "half");
  EXPECT_THAT(server.Saves(), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(server.Restore("a").status()));
  ASSERT_TRUE(server.Save(1, 1, "a").ok());
  EXPECT_THAT(server.Saves(), ElementsAre("a"));
  EXPECT_TRUE(server.Restore("a").ok());
  ASSERT_TRUE(server.Drop("a").ok());
  EXPECT_TRUE(server.Drop("a").ok()) << "a repeat does nothing";
  EXPECT_THAT(server.Saves(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(dir.File("saves/a")));
}

TEST(ShardSavesTest, AShardInMemoryAloneKeepsNone) {
  Server server("");
  ASSERT_TRUE(server.Open(1).ok());
  for (const absl::Status& status : {server.Save(1, 0, "a"), server.Restore("a").status(), server.Drop("a")}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("--store"));
  }
}

TEST(ShardSavesTest, ARunThatExpectsAnotherStepIsRefusedWithBoth) {
  TempDir dir;
  Server server(dir.path());
  const absl::StatusOr<int64_t> fresh = server.Open(1, 7);
  EXPECT_EQ(fresh.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(fresh.status().message()), HasSubstr("has committed 0 steps on shard 0; the run goes on from step 7"));
  EXPECT_THAT(server.shard().heads(), IsEmpty()) << "a head that was refused leaves nothing behind";
  ASSERT_EQ(*server.Open(1, 0), 0);
  ASSERT_TRUE(server.Step(1, 0).ok());
  EXPECT_EQ(server.Open(2, 0).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(server.Step(1, 1).ok()) << "the run that is open goes on";
  EXPECT_EQ(*server.Open(2, 2), 2);
}

// Each shard knows the newest of its own rows; the run brings all to one number.
TEST(ShardSavesTest, RowsOfMixedStepsCountOnFromTheStepThatTheRunNames) {
  TempDir dir;
  {
    Server server(dir.path());
    ASSERT_TRUE(server.Open(1).ok());
    for (int64_t step : {0, 1}) ASSERT_TRUE(server.Step(1, step).ok());
    ASSERT_TRUE(server.Save(1, 2, "two").ok());
    ASSERT_TRUE(server.Step(1, 2).ok());
    server.Kill();
  }
  Server server(dir.path());
  const absl::Status refused = server.Open(2).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--accept-mixed-steps"));
  EXPECT_EQ(server.Open(2, 1, /*accept_mixed_steps=*/true).status().code(), absl::StatusCode::kFailedPrecondition) << "rows do not go back";
  EXPECT_EQ(*server.Open(2, 7, /*accept_mixed_steps=*/true), 7);
  EXPECT_TRUE(server.Step(2, 7).ok());
}

}  // namespace
}  // namespace myriad
