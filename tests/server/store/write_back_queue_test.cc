#include "server/store/write_back_queue.h"

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "server/store/cold_record.h"

namespace myriad {
namespace {

constexpr int64_t kBytes = 8;

// Keeps steps by key. Writes wait for the gate, and fail if told to.
class FakeCold : public ColdStore {
 public:
  absl::Status Read(absl::Span<Target>) override { return absl::UnimplementedError("not asked for"); }
  int64_t record_bytes() const override { return kBytes; }
  Encoded Encode(const Record& record, char* value) const override {
    std::memcpy(value, &record.step, sizeof(record.step));
    std::memcpy(value + kColdHeaderBytes, record.bytes, kBytes);
    return {record.key, {value, kColdHeaderBytes + kBytes}};
  }
  absl::Status WriteEncoded(absl::Span<const Encoded> records) override {
    absl::MutexLock lock(&mu_);
    ++arrived_;
    for (const Encoded& record : records) EXPECT_TRUE(being_written_.insert(record.key).second) << "two writes of a key at a time";
    const absl::Status status = WriteOpen(records);
    for (const Encoded& record : records) being_written_.erase(record.key);
    return status;
  }
  absl::Status Ingest(const std::function<bool(Record*)>&) override { return absl::UnimplementedError("not asked for"); }
  absl::Status Scan(uint64_t, uint64_t, const std::function<absl::Status(const Record&)>&) override {
    return absl::UnimplementedError("not asked for");
  }
  absl::Status VerifyAll(const std::function<void(absl::Span<const Stamp>)>&) override { return absl::UnimplementedError("not asked for"); }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status LinkTo(const std::string&) override { return absl::UnimplementedError("not asked for"); }
  absl::Status PutNote(absl::string_view, absl::string_view) override { return absl::UnimplementedError("not asked for"); }
  absl::StatusOr<std::string> GetNote(absl::string_view) override { return absl::UnimplementedError("not asked for"); }
  void KeepShort(int64_t, Shortener) override {}
  Statistics statistics() const override { return {}; }

  void Open(bool open) {
    absl::MutexLock lock(&mu_);
    open_ = open;
  }
  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    fail_with_ = status;
  }
  void FailEvery(int writes) {
    absl::MutexLock lock(&mu_);
    fail_every_ = writes;
  }
  void WaitForAWrite() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](int* arrived) { return *arrived > 0; }, &arrived_));
  }
  int writes() {
    absl::MutexLock lock(&mu_);
    return arrived_;
  }
  std::map<uint64_t, int64_t> steps() {
    absl::MutexLock lock(&mu_);
    return steps_;
  }

 private:
  absl::Status WriteOpen(absl::Span<const Encoded> records) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    mu_.Await(absl::Condition(&open_));
    mu_.AwaitWithTimeout(absl::Condition(&never_), absl::Microseconds(300));
    if (!fail_with_.ok()) return fail_with_;
    if (fail_every_ > 0 && arrived_ % fail_every_ == 0) return absl::UnavailableError("now and then");
    for (const Encoded& record : records) {
      const int64_t step = StepOfColdValue(record.value.data());
      EXPECT_LE(steps_[record.key], step) << "an older record over a newer one";
      steps_[record.key] = step;
    }
    return absl::OkStatus();
  }

  absl::Mutex mu_;
  bool open_ = true;
  bool never_ = false;
  int arrived_ = 0;
  int fail_every_ = 0;
  std::set<uint64_t> being_written_;
  absl::Status fail_with_;
  std::map<uint64_t, int64_t> steps_;
};

std::vector<std::byte> Bytes(uint8_t value) { return std::vector<std::byte>(kBytes, static_cast<std::byte>(value)); }

TEST(WriteBackQueueTest, ARowIsFoundUntilTheColdStoreHasIt) {
  FakeCold cold;
  cold.Open(false);
  WriteBackQueue queue(&cold, 10, /*gather=*/absl::Milliseconds(1));
  ASSERT_TRUE(queue.Add(5, 1, Bytes(1).data()).ok());
  cold.WaitForAWrite();
  std::vector<std::byte> bytes(kBytes);
  int64_t step = 0;
  ASSERT_TRUE(queue.Find(5, bytes.data(), &step));
  EXPECT_EQ(step, 1);
  EXPECT_EQ(bytes, Bytes(1));
  // A newer record while the older one is being written.
  ASSERT_TRUE(queue.Add(5, 2, Bytes(2).data()).ok());
  ASSERT_TRUE(queue.Find(5, bytes.data(), &step));
  EXPECT_EQ(step, 2);
  cold.Open(true);
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_FALSE(queue.Find(5, bytes.data(), &step));
  EXPECT_EQ(cold.steps(), (std::map<uint64_t, int64_t>{{5, 2}}));
  EXPECT_EQ(queue.statistics().queued, 0);
}

TEST(WriteBackQueueTest, TheNewestOfManyIsWhatRemains) {
  FakeCold cold;
  WriteBackQueue queue(&cold, 100);
  for (int64_t step = 0; step < 5000; ++step) ASSERT_TRUE(queue.Add(step % 37, step, Bytes(step).data()).ok());
  ASSERT_TRUE(queue.Drain().ok());
  const std::map<uint64_t, int64_t> steps = cold.steps();
  ASSERT_EQ(steps.size(), 37u);
  for (const auto& [key, step] : steps) EXPECT_EQ(step, 4999 - (4999 - static_cast<int64_t>(key)) % 37);
}

// A record that still waits is written over where it lies, also in a queue that is full.
TEST(WriteBackQueueTest, ARecordThatWaitsGivesWayToANewerOne) {
  FakeCold cold;
  WriteBackQueue queue(&cold, 8, absl::InfiniteDuration());
  ASSERT_TRUE(queue.Add(1, 1, Bytes(1).data()).ok());
  for (int64_t step = 2; step < 50; ++step) ASSERT_TRUE(queue.TryAdd(1, step, Bytes(step).data()));
  EXPECT_EQ(queue.statistics().queued, 1);
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_EQ(cold.writes(), 1);
  EXPECT_EQ(cold.steps(), (std::map<uint64_t, int64_t>{{1, 49}}));
}

// Several rows' owners, a disk that fails now and then, keys that come back while they are being written.
TEST(WriteBackQueueTest, WritesAtTheSameTimeKeepTheNewestOfEachKey) {
  for (const int64_t capacity : {1, 3, 16, 200}) {
    FakeCold cold;
    cold.FailEvery(5);
    WriteBackQueue queue(&cold, capacity, absl::Microseconds(100));
    constexpr int64_t kOwners = 3;
    constexpr int64_t kKeys = 20;  // Of each.
    std::vector<std::thread> owners;
    std::map<uint64_t, int64_t> newest[kOwners];
    for (int64_t owner = 0; owner < kOwners; ++owner) {
      owners.emplace_back([&, owner] {
        std::mt19937_64 random(owner);
        std::vector<std::byte> bytes(kBytes);
        for (int64_t step = 1; step <= 600; ++step) {
          const int64_t key = owner * kKeys + static_cast<int64_t>(random() % kKeys);
          while (!queue.Add(key, step, Bytes(step).data()).ok()) continue;  // Told of a try that failed: it is made again.
          newest[owner][key] = step;
          int64_t found = 0;
          const int64_t other = owner * kKeys + static_cast<int64_t>(random() % kKeys);
          if (queue.Find(other, bytes.data(), &found)) {
            EXPECT_EQ(found, newest[owner][other]);
            EXPECT_EQ(bytes, Bytes(found));
          }
        }
      });
    }
    for (std::thread& owner : owners) owner.join();
    cold.FailEvery(0);
    while (!queue.Drain().ok()) continue;
    std::map<uint64_t, int64_t> all;
    for (const auto& of_owner : newest) all.insert(of_owner.begin(), of_owner.end());
    EXPECT_EQ(cold.steps(), all) << "capacity " << capacity;
    EXPECT_EQ(queue.statistics().queued, 0);
  }
}

// What comes row by row is one write, if nobody waits for it before.
TEST(WriteBackQueueTest, ABatchWaitsUntilItIsWorthAWrite) {
  FakeCold cold;
  WriteBackQueue queue(&cold, 200, absl::InfiniteDuration());
  for (int64_t key = 0; key < 50; ++key) ASSERT_TRUE(queue.Add(key, 0, Bytes(0).data()).ok());
  cold.WaitForAWrite();
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_EQ(cold.steps().size(), 50u);
  EXPECT_EQ(cold.writes(), 1);
}

TEST(WriteBackQueueTest, AFullQueueWaitsForTheDisk) {
  FakeCold cold;
  cold.Open(false);
  WriteBackQueue queue(&cold, 4);
  for (int64_t key = 0; key < 4; ++key) ASSERT_TRUE(queue.Add(key, 0, Bytes(0).data()).ok());
  absl::Notification added;
  std::thread other([&] {
    EXPECT_TRUE(queue.Add(4, 0, Bytes(0).data()).ok());
    added.Notify();
  });
  cold.WaitForAWrite();
  EXPECT_FALSE(added.HasBeenNotified());
  cold.Open(true);
  added.WaitForNotification();
  other.join();
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_EQ(cold.steps().size(), 5u);
}

TEST(WriteBackQueueTest, ADiskThatFailsIsToldAndGoesOnWhenItCanWriteAgain) {
  FakeCold cold;
  cold.Fail(absl::ResourceExhaustedError("disk full"));
  WriteBackQueue queue(&cold, 4);
  for (int64_t key = 0; key < 4; ++key) ASSERT_TRUE(queue.Add(key, 0, Bytes(key).data()).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(queue.Drain()));
  EXPECT_TRUE(absl::IsResourceExhausted(queue.Add(4, 0, Bytes(4).data())));
  EXPECT_FALSE(queue.TryAdd(4, 0, Bytes(4).data()));
  std::vector<std::byte> bytes(kBytes);
  int64_t step = 0;
  EXPECT_TRUE(queue.Find(1, bytes.data(), &step));
  EXPECT_FALSE(queue.Find(4, bytes.data(), &step));

  cold.Fail(absl::OkStatus());
  EXPECT_TRUE(queue.Drain().ok()) << "the disk is asked again at once";
  ASSERT_TRUE(queue.Add(4, 0, Bytes(4).data()).ok());
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_EQ(cold.steps().size(), 5u);
}

}  // namespace
}  // namespace myriad
