#ifndef MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_
#define MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad {

using StepFuture = std::future<absl::StatusOr<v1::HeadStepResponse>>;

inline constexpr int64_t kClasses = 500;
inline constexpr int kDim = 8;

// K shards with one head open for R ranks.
class ProtocolTest : public ::testing::Test {
 protected:
  void Start(int shards, int ranks, MyriadServer::Options options = ShardCluster::Defaults()) {
    cluster_ = std::make_unique<ShardCluster>(shards, options);
    ranks_ = ranks;
    for (int shard = 0; shard < shards; ++shard) {
      stubs_.push_back(std::make_unique<ShardStubs>(cluster_->addresses()[shard]));
      opens_.push_back(OpenRequest(shard));
      ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
    }
  }
  v1::OpenHeadRequest OpenRequest(int shard) {
    v1::OpenHeadRequest open = MakeOpen("faces", kClasses, kDim, cluster_->addresses(), shard, ranks_);
    open.set_step_deadline_ms(2000);
    open.set_shard_wait_ms(1000);
    return open;
  }
  v1::HeadStepRequest StepOf(int64_t step, int rank) {
    const std::vector<int64_t> labels = {(7 * step + rank) % kClasses, 499 - rank, 499 - rank};
    return MakeStep(opens_[0], step, rank, labels, 100 * step + rank);
  }
  // One rank's step on all shards.
  std::vector<absl::StatusOr<v1::HeadStepResponse>> StepEverywhere(const v1::HeadStepRequest& request) {
    std::vector<StepFuture> calls;
    for (const auto& shard : stubs_) calls.push_back(shard->StepAsync(request));
    std::vector<absl::StatusOr<v1::HeadStepResponse>> results;
    for (StepFuture& call : calls) results.push_back(call.get());
    return results;
  }
  void ExpectCommits(int64_t step) {
    for (const auto& result : StepEverywhere(StepOf(step, 0))) EXPECT_TRUE(result.ok()) << result.status();
  }
  // Everything that a shard keeps of the head.
  std::string Rows(int shard) {
    const auto messages = stubs_[shard]->ReadRows("faces", true);
    EXPECT_TRUE(messages.ok()) << messages.status();
    std::string all;
    for (const v1::ReadRowsResponse& message : *messages) absl::StrAppend(&all, message.SerializeAsString());
    return all;
  }
  std::string AllRows() {
    std::string all;
    for (size_t shard = 0; shard < stubs_.size(); ++shard) absl::StrAppend(&all, Rows(shard));
    return all;
  }

  std::unique_ptr<ShardCluster> cluster_;
  int ranks_ = 1;
  std::vector<std::unique_ptr<ShardStubs>> stubs_;
  std::vector<v1::OpenHeadRequest> opens_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_SERVER_PROTOCOL_FIXTURE_H_
