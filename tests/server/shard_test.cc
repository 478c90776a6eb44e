// A shard in one thread, without sockets: opening heads, and memory that runs short.
#include "server/shard.h"

#include <ATen/Functions.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/server/fake_executor.h"
#include "tests/testing/server/fake_timer.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;

// One shard alone votes with itself.
class NoPeers : public PeerClient {
 public:
  void Vote(int, const Ballot&, absl::Duration, OutcomeCallback) override { FAIL(); }
  void GetOutcome(int, const VoteKey&, int, absl::Duration, OutcomeCallback) override { FAIL(); }
  void CheckHead(int, int64_t, absl::Duration, std::function<void(absl::Status)>) override { FAIL(); }
  std::string NameOf(int) const override { return "shard 0 (here)"; }
};

class ShardTest : public ::testing::Test {
 protected:
  ~ShardTest() override {
    shard_.Shutdown(absl::UnavailableError("over"));
    executor_.RunAll();
  }
  static HeadSpec Head(int64_t classes, int dim) {
    HeadSpec head;
    head.name = "faces";
    head.class_count = classes;
    head.embedding_dim = dim;
    return head;
  }
  static SessionOptions Session(int64_t incarnation, SamplerOptions::Kind sampler) {
    SessionOptions session;
    session.incarnation = incarnation;
    session.shard_addresses = {"here"};
    session.training.sampler.kind = sampler;
    return session;
  }
  absl::Status Open(const HeadSpec& head, const SessionOptions& session) {
    std::optional<absl::Status> status;
    shard_.Open(head, session, [&](const absl::StatusOr<HeadShard::Info>& info) { status = info.status(); });
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  std::shared_ptr<TrainingSession> Run(int64_t incarnation) { return *(*shard_.Find("faces"))->Session(incarnation); }
  // One rank's whole step with zero embeddings.
  absl::Status Step(StepEngine& engine, int64_t step, const std::vector<int64_t>& labels, int64_t samples, int dim,
                    std::vector<int64_t> step_labels = {}) {
    StepCall call;
    call.step = step;
    call.attempt = attempt_++;
    call.phase_count = step_labels.empty() ? 1 : 2;
    call.has_learning_rate = true;
    call.part = HeadStepPart{at::zeros({samples, dim}, at::kFloat), labels, std::move(step_labels)};
    std::optional<absl::Status> status;
    call.done = [&](const absl::StatusOr<std::shared_ptr<const RankReply>>& reply) { status = reply.status(); };
    engine.Call(std::move(call));
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  }
  void ExpectTooLittleMemory(const absl::Status& status, const std::string& what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
  static Shard::Options Options(const int64_t* available) {
    Shard::Options options;
    options.available_memory = [available] { return *available; };
    return options;
  }

  int64_t available_ = int64_t{1} << 40;
  int attempt_ = 0;
  FakeExecutor executor_;
  FakeTimer timer_;
  Shard shard_{Options(&available_), &executor_, &timer_,
               [](const std::string&, const std::vector<std::string>&) { return std::make_shared<NoPeers>(); }};
};

TEST_F(ShardTest, ARunWhoseStepDoesNotFitIsRefusedAndLeavesNothing) {
  available_ = 200 * kMiB;
  // 100,000 rows of 256 floats with momentum, and a copy: 293 MiB.
  ExpectTooLittleMemory(Open(Head(100000, 256), Session(1, SamplerOptions::Kind::kAll)), "the 100000 rows of a step");
  EXPECT_TRUE(shard_.heads().empty());
  EXPECT_TRUE(Open(Head(100000, 64), Session(1, SamplerOptions::Kind::kAll)).ok());
}

// Blocks of 7,000 classes of 100,000 on one shard of two: 287 partitions of 24 or 25 rows, half of them here.
TEST_F(ShardTest, ASampleThatRotatesThroughTheShardsIsChecked) {
  available_ = (64 + 7) * kMiB;
  SessionOptions session = Session(1, SamplerOptions::Kind::kBlock);
  session.shard_addresses = {"here", "there"};
  session.training.sampler.sample_count = 7000;
  const absl::Status status = Open(Head(100000, 256), session);
  ExpectTooLittleMemory(status, " rows of a step with 256 numbers each");
  int64_t rows = 0;
  ASSERT_TRUE(absl::SimpleAtoi(std::vector<std::string>(absl::StrSplit(status.message(), ' '))[3], &rows)) << status;
  EXPECT_NEAR(rows, 3500, 75);
  available_ = (64 + 12) * kMiB;
  EXPECT_TRUE(Open(Head(100000, 256), session).ok());
}

// Rows of 64 numbers with momentum: 512 bytes and what stands beside them.
TEST_F(ShardTest, APoolThatDoesNotFitTheMemoryIsRefusedWithWhatIsMissing) {
  Shard::Options options = Options(&available_);
  options.memory_bytes = 32 * kMiB;
  Shard small(options, &executor_, &timer_,
              [](const std::string&, const std::vector<std::string>&) { return std::make_shared<NoPeers>(); });
  const auto open = [&](int64_t incarnation, int64_t pool_size) {
    SessionOptions session = Session(incarnation, SamplerOptions::Kind::kPool);
    session.training.sampler.sample_count = 1000;
    session.training.sampler.pool_size = pool_size;
    session.training.sampler.rotated_rows = 50;
    std::optional<absl::Status> status;
    small.Open(Head(100000, 64), session, [&](const absl::StatusOr<HeadShard::Info>& info) { status = info.status(); });
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  };
  const absl::Status refused = open(1, 80000);
  ExpectTooLittleMemory(refused, "rows of a step, and what stays beside them, 8");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--memory leaves 32 MiB for rows; give at least "));
  EXPECT_TRUE(open(1, 40000).ok());
  small.Shutdown(absl::UnavailableError("over"));
  executor_.RunAll();
}

// The labels that a run announces count as rows beside those drawn; with the memory that the refusal asks for the head opens.
TEST_F(ShardTest, LabelsThatDoNotFitTheMemoryAreRefusedWithTheLeastThatWouldDo) {
  const auto open = [&](int64_t memory_mib, SamplerOptions::Kind sampler, int64_t labels_per_step) {
    Shard::Options options = Options(&available_);
    options.memory_bytes = memory_mib * kMiB;
    Shard small(options, &executor_, &timer_,
                [](const std::string&, const std::vector<std::string>&) { return std::make_shared<NoPeers>(); });
    SessionOptions session = Session(1, sampler);
    session.training.sampler.sample_count = 1000;
    session.training.sampler.pool_size = 50000;
    session.training.sampler.rotated_rows = 50;
    session.labels_per_step = labels_per_step;
    std::optional<absl::Status> status;
    small.Open(Head(100000, 64), session, [&](const absl::StatusOr<HeadShard::Info>& info) { status = info.status(); });
    executor_.RunAll();
    small.Shutdown(absl::UnavailableError("over"));
    executor_.RunAll();
    return status.value_or(absl::UnknownError("no answer"));
  };
  for (const SamplerOptions::Kind sampler : {SamplerOptions::Kind::kUniform, SamplerOptions::Kind::kPool}) {
    EXPECT_TRUE(open(32, sampler, 256).ok());
    EXPECT_TRUE(open(32, sampler, 0).ok());
    const absl::Status refused = open(32, sampler, 70000);
    ExpectTooLittleMemory(refused, "the 71000 rows of a step");
    int64_t least = 0;
    const size_t at = refused.message().find("give at least ");
    ASSERT_EQ(sscanf(std::string(refused.message()).c_str() + at, "give at least %ld MiB", &least), 1) << refused;
    EXPECT_TRUE(open(least, sampler, 70000).ok());
    EXPECT_FALSE(open(least - 1, sampler, 70000).ok()) << "it was not the least";
  }
}

TEST_F(ShardTest, RowsThatExistNeedNoMoreMemoryThanTheStepsCopy) {
  const HeadSpec head = Head(100000, 128);  // 98 MiB and a little of rows, 49 MiB of copies.
  ASSERT_TRUE(Open(head, Session(1, SamplerOptions::Kind::kPositivesOnly)).ok());
  std::vector<int64_t> ids(100000);
  std::iota(ids.begin(), ids.end(), 0);
  std::optional<absl::Status> written;
  (*shard_.Find("faces"))
      ->Write(
          ids, at::ones({100000, 128}), at::empty({0, 0}), [] { return false; }, [&](const absl::Status& status) { written = status; });
  executor_.RunAll();
  ASSERT_TRUE(written.has_value() && written->ok());
  available_ = (48 + 64) * kMiB;
  ExpectTooLittleMemory(Open(head, Session(2, SamplerOptions::Kind::kAll)), "0 of them new");
  EXPECT_EQ((*shard_.Find("faces"))->info().incarnation, 1) << "the run that was open stays so";
  available_ = (49 + 64) * kMiB;
  EXPECT_TRUE(Open(head, Session(2, SamplerOptions::Kind::kAll)).ok());
  // The copies of the run before come free.
  available_ = 0;
  EXPECT_TRUE(Open(head, Session(3, SamplerOptions::Kind::kAll)).ok());
}

TEST_F(ShardTest, AStepWhoseNewRowsDoNotFitIsRefusedAndTheNextOneGoesOn) {
  ASSERT_TRUE(Open(Head(100000, 128), Session(1, SamplerOptions::Kind::kAll)).ok());
  // Enough for each chunk of 64 MiB by itself, not for the two that the rows fill.
  available_ = 150 * kMiB;
  ExpectTooLittleMemory(Step(Run(1)->train(), 0, {5}, 1, 128), "100000 new rows");
  EXPECT_EQ((*shard_.Find("faces"))->info().row_count, 0);
  available_ = 1024 * kMiB;
  EXPECT_TRUE(Step(Run(1)->train(), 0, {5}, 1, 128).ok());
  EXPECT_EQ((*shard_.Find("faces"))->info().row_count, 100000);
}

TEST_F(ShardTest, AStepWhoseCopiesDoNotFitIsRefused) {
  ASSERT_TRUE(Open(Head(100000, 128), Session(1, SamplerOptions::Kind::kAll)).ok());
  std::optional<absl::Status> reserved;
  (*shard_.Find("faces"))->Reserve(100000, [&](const absl::Status& status) { reserved = status; });
  executor_.RunAll();
  ASSERT_TRUE(reserved.has_value() && reserved->ok());
  available_ = 100 * kMiB;
  ExpectTooLittleMemory(Step(Run(1)->train(), 0, {5}, 1, 128), "copies of the 100000 rows");
  ExpectTooLittleMemory(Step(Run(1)->evaluate(), 0, {5}, 1, 128), "copies of the 100000 rows");
}

TEST_F(ShardTest, MoreStepLabelsThanMemoryAreRefusedBeforeRowsAreDrawn) {
  ASSERT_TRUE(Open(Head(int64_t{1} << 40, 4), Session(1, SamplerOptions::Kind::kPositivesOnly)).ok());
  std::vector<int64_t> labels(2000000);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = 1000 * i;
  available_ = 150 * kMiB;
  ExpectTooLittleMemory(Step(Run(1)->train(), 0, {}, 0, 4, labels), "2000000 labels of a step");
  available_ = 200 * kMiB;
  ExpectTooLittleMemory(Step(Run(1)->train(), 0, {}, 0, 4, labels), "2000000 new rows");
  EXPECT_EQ((*shard_.Find("faces"))->info().row_count, 0);
}

TEST_F(ShardTest, AHeadWithoutRowsGivesWayToAHigherIncarnation) {
  ASSERT_TRUE(Open(Head(1000, 8), Session(1, SamplerOptions::Kind::kAll)).ok());
  const std::shared_ptr<TrainingSession> first = Run(1);
  EXPECT_EQ(Open(Head(1000, 4), Session(1, SamplerOptions::Kind::kAll)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Open(Head(1000, 4), Session(2, SamplerOptions::Kind::kAll)).ok());
  EXPECT_EQ(Step(first->train(), 0, {5}, 1, 8).code(), absl::StatusCode::kFailedPrecondition) << "the run before has ended";
  attempt_ = 0;
  EXPECT_TRUE(Step(Run(2)->train(), 0, {5}, 1, 4).ok());
  // Now there are rows.
  const absl::Status refused = Open(Head(1000, 8), Session(3, SamplerOptions::Kind::kAll));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("embedding_dim"));
  EXPECT_EQ((*shard_.Find("faces"))->info().incarnation, 2);
}

TEST_F(ShardTest, AHeadDoesNotGiveWayWhileAStepIsUnderWay) {
  SessionOptions session = Session(1, SamplerOptions::Kind::kAll);
  session.rank_count = 2;
  ASSERT_TRUE(Open(Head(1000, 8), session).ok());
  EXPECT_EQ(Step(Run(1)->train(), 0, {5}, 1, 8).message(), "no answer") << "rank 1 is still to come";
  EXPECT_EQ(Open(Head(1000, 4), Session(2, SamplerOptions::Kind::kAll)).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace myriad
