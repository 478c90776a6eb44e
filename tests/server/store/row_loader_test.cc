#include "server/store/row_loader.h"

#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/store/cold_store.h"
#include "server/store/stored_rows.h"
#include "tests/testing/server/fake_cold_store.h"

namespace myriad {
namespace {

// A disk with records of all keys below 100, each of step 1000 + key and filled with its key. Reads wait for the gate.
class RowLoaderTest : public testing::Test {
 protected:
  void Open(int64_t record_bytes) {
    record_bytes_ = record_bytes;
    disk_.emplace(record_bytes);
    rows_.emplace(disk_->Open(), /*queue_records=*/1);
    uint64_t key = 0;
    std::vector<std::byte> bytes(record_bytes);
    ASSERT_TRUE(rows_->cold()
                    .Ingest([&](ColdStore::Record* record) {
                      if (key == 100) return false;
                      std::memset(bytes.data(), static_cast<int>(key), bytes.size());
                      *record = {key, 1000 + static_cast<int64_t>(key), bytes.data()};
                      ++key;
                      return true;
                    })
                    .ok());
    disk_->SetHook([this](FakeDisk::Call call) {
      if (call != FakeDisk::Call::kRead) return absl::OkStatus();
      absl::MutexLock lock(&mu_);
      ++reads_;
      mu_.Await(absl::Condition(&open_));
      return absl::OkStatus();
    });
    loader_.emplace(&*rows_);
  }

  std::shared_ptr<LoadBatch> Start(bool run, std::vector<uint64_t> keys) {
    auto batch = std::make_shared<LoadBatch>();
    batch->run = run;
    for (const uint64_t key : keys) {
      memory_.emplace_back(record_bytes_);
      batch->targets.push_back({key, memory_.back().data(), 0});
    }
    loader_->Start(batch);
    return batch;
  }
  // The loader has a batch in hand and comes back for more once the gate is open.
  void HoldUp() {
    held_up_ = Start(/*run=*/true, {0});
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](int* reads) { return *reads == 1; }, &reads_));
  }
  void LetGo() {
    absl::MutexLock lock(&mu_);
    open_ = true;
  }
  int reads() {
    absl::MutexLock lock(&mu_);
    return reads_;
  }

  void ExpectRead(LoadBatch* batch) {
    batch->done.WaitForNotification();
    ASSERT_TRUE(batch->status.ok()) << batch->status;
    for (const ColdStore::Target& target : batch->targets) {
      EXPECT_EQ(target.step, 1000 + static_cast<int64_t>(target.key));
      EXPECT_EQ(target.bytes[record_bytes_ - 1], static_cast<std::byte>(target.key));
    }
  }

  absl::Mutex mu_;
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  int reads_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t record_bytes_ = 0;
  std::optional<FakeDisk> disk_;
  std::optional<StoredRows> rows_;
  std::vector<std::vector<std::byte>> memory_;
  std::shared_ptr<LoadBatch> held_up_;
  std::optional<RowLoader> loader_;
};

TEST_F(RowLoaderTest, RunsThatWaitAreReadTogetherAndBehindSingleRows) {
  Open(/*record_bytes=*/64);
  HoldUp();
  const auto first = Start(/*run=*/true, {20, 21, 22});
  const auto second = Start(/*run=*/true, {10, 11, 12});  // Runs come in any order of their keys.
  const auto single = Start(/*run=*/false, {50});
  const auto other_single = Start(/*run=*/false, {40});
  const auto third = Start(/*run=*/true, {30});
  disk_->SetHook([single, other_single, second, reads = 0](FakeDisk::Call) mutable {
    EXPECT_TRUE(++reads < 3 || (single->done.HasBeenNotified() && other_single->done.HasBeenNotified()));
    EXPECT_FALSE(second->done.HasBeenNotified());
    EXPECT_LE(reads, 3) << "each single batch, and the runs by one read";
    return absl::OkStatus();
  });
  LetGo();
  for (const auto& batch : {held_up_, first, second, single, other_single, third}) ExpectRead(batch.get());
}

TEST_F(RowLoaderTest, LongRunsAreReadOneByOne) {
  Open(RowLoader::kBytesTogether / 4);
  HoldUp();
  const auto first = Start(/*run=*/true, {1, 2});
  const auto second = Start(/*run=*/true, {3, 4});
  const auto third = Start(/*run=*/true, {5, 6, 7, 8, 9});  // Longer than what is read together.
  const auto fourth = Start(/*run=*/true, {10});
  LetGo();
  for (const auto& batch : {first, second, third, fourth}) ExpectRead(batch.get());
  EXPECT_EQ(reads(), 4) << "the one that held it up, two together, the long one, the last";
}

TEST_F(RowLoaderTest, WhatIsWrongWithOneIsNotTheOthersMatter) {
  Open(/*record_bytes=*/64);
  HoldUp();
  const auto good = Start(/*run=*/true, {20, 21});
  const auto bad = Start(/*run=*/true, {30, 100});  // There is no record 100.
  const auto also_good = Start(/*run=*/true, {40});
  LetGo();
  bad->done.WaitForNotification();
  EXPECT_EQ(bad->status.code(), absl::StatusCode::kDataLoss) << bad->status;
  ExpectRead(good.get());
  ExpectRead(also_good.get());
}

TEST_F(RowLoaderTest, WhatWasNotBegunIsCancelled) {
  Open(/*record_bytes=*/64);
  HoldUp();
  const auto run = Start(/*run=*/true, {20});
  const auto single = Start(/*run=*/false, {30});
  std::thread closer([this] { loader_.reset(); });
  run->done.WaitForNotification();
  single->done.WaitForNotification();
  LetGo();
  closer.join();
  EXPECT_TRUE(absl::IsCancelled(run->status)) << run->status;
  EXPECT_TRUE(absl::IsCancelled(single->status)) << single->status;
  ExpectRead(held_up_.get());
}

}  // namespace
}  // namespace myriad
