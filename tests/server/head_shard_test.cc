#include "server/head_shard.h"

#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Functions.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/tiered_row_store.h"
#include "tests/testing/server/fake_executor.h"
#include "tests/testing/server/fake_timer.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

// Rows of which the last part of a step gets lost.
class TearingStore : public TieredRowStore {
 public:
  using TieredRowStore::TieredRowStore;
  void Commit() override {
    if (last_committed_step() == 0) throw std::bad_alloc();
    TieredRowStore::Commit();
  }
};

class HeadShardTest : public ::testing::Test {
 protected:
  HeadShardTest() {
    HeadShard::Options options;
    options.head.name = "faces";
    options.head.class_count = 100;
    options.head.embedding_dim = 4;
    TieredRowStore::Options store;
    store.head = options.head;
    head_ = std::make_shared<HeadShard>(
        options, std::make_unique<TearingStore>(store, nullptr, std::make_unique<PresenceBitmap>(Partitions(100, 0), 0, 1)), nullptr,
        &executor_, &timer_, [](const std::string&, const std::vector<std::string>&) { return nullptr; });
  }
  absl::Status Open(int64_t incarnation) {
    SessionOptions session;
    session.training.sampler.sample_count = 10;
    session.incarnation = incarnation;
    session.shard_addresses = {"localhost:1"};
    absl::Status status = absl::UnknownError("no answer");
    head_->Open(session, [&](const absl::StatusOr<HeadShard::Info>& info) { status = info.status(); });
    executor_.RunAll();
    return status;
  }
  absl::Status Step(int64_t step) {
    const auto session = head_->Session(1);
    if (!session.ok()) return session.status();
    StepCall call;
    call.step = step;
    call.has_learning_rate = true;
    call.learning_rate = 0.1;
    call.part = HeadStepPart{at::ones({1, 4}), {7}, {}};
    absl::Status status = absl::UnknownError("no answer");
    call.done = [&](const absl::StatusOr<std::shared_ptr<const RankReply>>& reply) { status = reply.status(); };
    (*session)->train().Call(std::move(call));
    executor_.RunAll();
    return status;
  }
  absl::Status Read() {
    absl::Status status = absl::UnknownError("no answer");
    head_->Read({7}, false, [&](const absl::StatusOr<HeadShard::Rows>& rows) { status = rows.status(); });
    executor_.RunAll();
    return status;
  }

  FakeTimer timer_;
  FakeExecutor executor_;
  std::shared_ptr<HeadShard> head_;
};

// Step 1 is decided, so it counts, but what its rows are nobody knows: neither this run nor the next may go on with them.
TEST_F(HeadShardTest, AStepAppliedInPartIsDataLossForThisRunAndTheNext) {
  ASSERT_EQ(Open(1), absl::OkStatus());
  ASSERT_EQ(Step(0), absl::OkStatus());
  ASSERT_EQ(Read(), absl::OkStatus());
  EXPECT_EQ(Step(1), absl::OkStatus()) << "the reply leaves first";
  for (const absl::Status& status : {Step(2), Read(), Open(1), Open(2)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("head 'faces' step 1 attempt 0 could not be applied"));
  }
}

}  // namespace
}  // namespace myriad
