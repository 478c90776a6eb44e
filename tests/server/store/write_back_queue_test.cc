#include "server/store/write_back_queue.h"

#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

// Keeps steps by key. Writes wait for the gate, and fail if told to.
class FakeCold : public ColdStore {
 public:
  absl::Status Read(absl::Span<Target>) override { return absl::UnimplementedError("not asked for"); }
  absl::Status Write(absl::Span<const Record> records) override {
    absl::MutexLock lock(&mu_);
    ++arrived_;
    mu_.Await(absl::Condition(&open_));
    if (!fail_with_.ok()) return fail_with_;
    for (const Record& record : records) {
      EXPECT_LE(steps_[record.key], record.step) << "an older record over a newer one";
      steps_[record.key] = record.step;
    }
    return absl::OkStatus();
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
  absl::Mutex mu_;
  bool open_ = true;
  int arrived_ = 0;
  absl::Status fail_with_;
  std::map<uint64_t, int64_t> steps_;
};

constexpr int64_t kBytes = 8;

std::vector<std::byte> Bytes(uint8_t value) { return std::vector<std::byte>(kBytes, static_cast<std::byte>(value)); }

TEST(WriteBackQueueTest, ARowIsFoundUntilTheColdStoreHasIt) {
  FakeCold cold;
  cold.Open(false);
  WriteBackQueue queue(&cold, kBytes, 10);
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
  WriteBackQueue queue(&cold, kBytes, 100);
  for (int64_t step = 0; step < 5000; ++step) ASSERT_TRUE(queue.Add(step % 37, step, Bytes(step).data()).ok());
  ASSERT_TRUE(queue.Drain().ok());
  const std::map<uint64_t, int64_t> steps = cold.steps();
  ASSERT_EQ(steps.size(), 37u);
  for (const auto& [key, step] : steps) EXPECT_EQ(step, 4999 - (4999 - static_cast<int64_t>(key)) % 37);
}

// What comes row by row is one write, if nobody waits for it before.
TEST(WriteBackQueueTest, ABatchWaitsUntilItIsWorthAWrite) {
  FakeCold cold;
  WriteBackQueue queue(&cold, kBytes, 100, absl::InfiniteDuration());
  for (int64_t key = 0; key < 50; ++key) ASSERT_TRUE(queue.Add(key, 0, Bytes(0).data()).ok());
  cold.WaitForAWrite();
  ASSERT_TRUE(queue.Drain().ok());
  EXPECT_EQ(cold.steps().size(), 50u);
  EXPECT_EQ(cold.writes(), 1);
}

TEST(WriteBackQueueTest, AFullQueueWaitsForTheDisk) {
  FakeCold cold;
  cold.Open(false);
  WriteBackQueue queue(&cold, kBytes, 4);
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
  WriteBackQueue queue(&cold, kBytes, 4);
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
