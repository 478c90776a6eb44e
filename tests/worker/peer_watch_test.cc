#include "worker/peer_watch.h"

#include <map>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace myriad {
namespace {

class FakeStore : public KeyValueStore {
 public:
  absl::Status Set(const std::string& key, const std::string& value) override {
    if (!status.ok()) return status;
    values[key] = value;
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Get(const std::string& key) override {
    if (!status.ok()) return status;
    const auto found = values.find(key);
    if (found == values.end()) return absl::NotFoundError(key);
    return found->second;
  }

  std::map<std::string, std::string> values;
  absl::Status status = absl::OkStatus();
};

class PeerWatchTest : public ::testing::Test {
 protected:
  std::vector<std::unique_ptr<PeerWatch>> MakeWatches(int count) {
    std::vector<std::unique_ptr<PeerWatch>> watches;
    for (int r = 0; r < count; ++r) {
      watches.push_back(std::make_unique<PeerWatch>(PeerWatch::Options{r, count, absl::Seconds(30)}, &store_));
    }
    return watches;
  }

  FakeStore store_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(PeerWatchTest, RanksThatKeepBeatingAreNeverLost) {
  auto watches = MakeWatches(3);
  for (int second = 0; second < 200; ++second) {
    for (auto& watch : watches) EXPECT_TRUE(watch->Round(now_).ok());
    now_ += absl::Seconds(1);
  }
}

TEST_F(PeerWatchTest, ARankWithoutASignOfLifeIsLostAfterThePatienceAndAllLearnIt) {
  auto watches = MakeWatches(3);
  for (auto& watch : watches) ASSERT_TRUE(watch->Round(now_).ok());
  ASSERT_TRUE(watches[1]->Round(now_).ok());  // Sees rank 2's only beat.
  for (int second = 1; second < 30; ++second) {
    now_ += absl::Seconds(1);
    EXPECT_TRUE(watches[0]->Round(now_).ok());
    EXPECT_TRUE(watches[1]->Round(now_).ok()) << "after " << second << " s";
  }
  now_ += absl::Seconds(1);
  const absl::Status seen = watches[1]->Round(now_);
  EXPECT_TRUE(IsPeerLost(seen)) << seen;
  EXPECT_NE(seen.message().find("rank 2 was lost"), std::string::npos) << seen;
  const absl::Status told = watches[0]->Round(now_);
  EXPECT_TRUE(IsPeerLost(told)) << told;
  EXPECT_NE(told.message().find("rank 2 was lost"), std::string::npos) << told;
}

TEST_F(PeerWatchTest, ARankThatNeverCameIsLostToo) {
  auto watches = MakeWatches(2);
  EXPECT_TRUE(watches[0]->Round(now_).ok());
  EXPECT_TRUE(IsPeerLost(watches[0]->Round(now_ + absl::Seconds(31))));
}

TEST_F(PeerWatchTest, WhatAFailingRankReportsIsToldByTheOthers) {
  auto watches = MakeWatches(2);
  ASSERT_TRUE(PeerWatch::Report(1, absl::DataLossError("shard 0 is gone"), &store_).ok());
  ASSERT_TRUE(PeerWatch::Report(0, absl::InternalError("too late"), &store_).ok());
  const absl::Status status = watches[0]->Round(now_);
  EXPECT_TRUE(IsPeerLost(status));
  EXPECT_EQ(status.message(), "rank 1 ended: shard 0 is gone");
}

TEST_F(PeerWatchTest, AStoreThatDoesNotAnswerIsALostRankZero) {
  auto watches = MakeWatches(2);
  store_.status = absl::InternalError("connection reset");
  const absl::Status status = watches[1]->Round(now_);
  EXPECT_TRUE(IsPeerLost(status));
  EXPECT_NE(status.message().find("rank 0"), std::string::npos) << status;
}

TEST(PeerLostErrorTest, AShardThatIsUnavailableIsNoLostPeer) {
  EXPECT_FALSE(IsPeerLost(absl::UnavailableError("shard 1")));
  EXPECT_FALSE(IsPeerLost(absl::OkStatus()));
  EXPECT_TRUE(IsPeerLost(PeerLostError("x")));
}

TEST(PeerLostErrorTest, AShardThatIsLostWithItsRowsIsALostPeer) {
  const absl::Status lost = PeerLostIfShardIs(absl::DataLossError("shard 1 is gone"));
  EXPECT_TRUE(IsPeerLost(lost));
  EXPECT_EQ(lost.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(lost.message(), "shard 1 is gone");
  for (const absl::Status& other : {absl::OkStatus(), absl::UnavailableError("shard 1"), absl::AbortedError("shard 1")}) {
    EXPECT_EQ(PeerLostIfShardIs(other), other);
  }
}

}  // namespace
}  // namespace myriad
