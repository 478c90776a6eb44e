// Servers with a store: what is on disk after a stop, and who may train on from it.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kClasses = 600;
constexpr int kDim = 8;

class StoredHeadsTest : public ::testing::Test {
 protected:
  MyriadServer::Options Options(int shard) {
    MyriadServer::Options options = ShardCluster::Defaults();
    options.store = dir_.File("shard-" + std::to_string(shard));
    options.memory_bytes = int64_t{200} << 20;
    return options;
  }
  void Start() {
    cluster_.reset();
    cluster_ = std::make_unique<ShardCluster>(std::vector<MyriadServer::Options>{Options(0), Options(1)});
    stubs_.clear();
    for (const std::string& address : cluster_->addresses()) stubs_.push_back(std::make_unique<ShardStubs>(address));
  }
  std::vector<absl::Status> Open(int64_t incarnation, int dim = kDim) {
    std::vector<absl::Status> statuses;
    for (int shard = 0; shard < 2; ++shard) {
      v1::OpenHeadRequest open = MakeOpen("faces", kClasses, dim, cluster_->addresses(), shard, 1);
      open.set_incarnation(incarnation);
      statuses.push_back(stubs_[shard]->Open(open).status());
      open_ = open;
    }
    return statuses;
  }
  void Train(int64_t first, int64_t end) {
    for (int64_t step = first; step < end; ++step) {
      const v1::HeadStepRequest request = MakeStep(open_, step, 0, {step % kClasses, 5, 599}, static_cast<uint32_t>(step));
      auto other = stubs_[1]->StepAsync(request);
      const absl::Status status = stubs_[0]->Step(request).status();
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_TRUE(other.get().ok());
    }
  }
  // Everything that ReadRows tells, of both shards.
  std::vector<std::string> Rows() {
    std::vector<std::string> rows;
    for (const auto& stub : stubs_) {
      const auto messages = stub->ReadRows("faces", /*with_slots=*/true);
      EXPECT_TRUE(messages.ok()) << messages.status();
      for (const v1::ReadRowsResponse& message : *messages) rows.push_back(message.SerializeAsString());
    }
    return rows;
  }

  TempDir dir_;
  std::unique_ptr<ShardCluster> cluster_;
  std::vector<std::unique_ptr<ShardStubs>> stubs_;
  v1::OpenHeadRequest open_;
};

TEST_F(StoredHeadsTest, HeadsComeBackAfterACleanStopAndGoOn) {
  Start();
  for (const absl::Status& status : Open(4)) ASSERT_TRUE(status.ok()) << status;
  Train(0, 6);
  const std::vector<std::string> rows = Rows();

  Start();
  for (const auto& stub : stubs_) {
    const absl::StatusOr<v1::HeadInfo> info = stub->Info("faces");
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->committed_steps(), 6);
    EXPECT_EQ(info->incarnation(), 4);
    EXPECT_TRUE(info->has_training());
    EXPECT_FALSE(info->has_mixed_steps());
  }
  EXPECT_EQ(Rows(), rows);
  for (const absl::Status& status : Open(4)) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("4 is not greater"));
  }
  for (const absl::Status& status : Open(5, kDim + 1)) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("embedding_dim is 8 at the shard and 9 at the call"));
  }
  for (const absl::Status& status : Open(5)) ASSERT_TRUE(status.ok()) << status;
  Train(6, 9);
}

// As one process with all of it in memory would have gone on.
TEST_F(StoredHeadsTest, AStopInBetweenChangesNoRow) {
  Start();
  for (const absl::Status& status : Open(1)) ASSERT_TRUE(status.ok()) << status;
  Train(0, 8);
  const std::vector<std::string> straight = Rows();
  cluster_.reset();
  std::filesystem::remove_all(dir_.File("shard-0"));
  std::filesystem::remove_all(dir_.File("shard-1"));

  Start();
  for (const absl::Status& status : Open(1)) ASSERT_TRUE(status.ok()) << status;
  Train(0, 3);
  Start();
  for (const absl::Status& status : Open(2)) ASSERT_TRUE(status.ok()) << status;
  Train(3, 8);
  EXPECT_EQ(Rows(), straight);
}

TEST_F(StoredHeadsTest, AHeadWithoutRowsLeavesNothingBehind) {
  Start();
  for (const absl::Status& status : Open(1)) ASSERT_TRUE(status.ok()) << status;
  Start();
  EXPECT_FALSE(stubs_[0]->Info("faces").ok());
  for (const absl::Status& status : Open(2, kDim + 1)) EXPECT_TRUE(status.ok()) << status;
}

TEST_F(StoredHeadsTest, AStoreThatIsInUseIsRefused) {
  Start();
  for (const absl::Status& status : Open(1)) ASSERT_TRUE(status.ok()) << status;
  const absl::Status status = MyriadServer::Start(Options(0)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("shard-0: another server has this store open"));
}

}  // namespace
}  // namespace myriad
