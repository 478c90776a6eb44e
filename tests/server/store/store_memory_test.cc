// What a row store takes of the memory that it was given, whatever its steps and its disk do.
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "server/store/memory_division.h"
#include "server/store/tiered_row_store.h"
#include "tests/testing/server/change_rows.h"
#include "tests/testing/server/fake_cold_store.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

constexpr int kDim = 16;
constexpr int64_t kClasses = 4000;

std::vector<int64_t> Range(int64_t first, int64_t count) {
  std::vector<int64_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

class StoreMemoryTest : public ::testing::Test {
 protected:
  // A slab of `records`.
  void Make(DataType dtype, int64_t records, int64_t queue_records) {
    TieredRowStore::Options options;
    options.head.name = "h";
    options.head.class_count = kClasses;
    options.head.embedding_dim = kDim;
    options.head.weight_dtype = options.head.slot_dtype = dtype;
    const int64_t record_bytes = RowCodec(options.head).record_bytes();
    memory_bytes_ = records * (record_bytes + HotRows::kBytesBesideRecord);
    options.memory_bytes = memory_bytes_;
    options.queue_records = queue_records;
    options.available_memory = [] { return int64_t{1} << 40; };
    head_ = options.head;
    disk_ = std::make_unique<FakeDisk>(record_bytes);
    store_ = std::make_unique<TieredRowStore>(options, disk_->Open(),
                                              std::make_unique<PresenceBitmap>(Partitions(kClasses, options.head.seed), 0, 1));
  }
  absl::Status Step(const std::vector<int64_t>& ids, RowStore::PinFigures* figures = nullptr) {
    RowStore::PinFigures own;
    if (figures == nullptr) figures = &own;
    if (absl::Status status = store_->Pin(step_, ids, figures); !status.ok()) return status;
    ChangeRows(store_.get(), [this](int64_t, float* weights, float*) { weights[0] = static_cast<float>(step_); });
    store_->Commit();
    ++step_;
    return absl::OkStatus();
  }
  // Writes are refused until the hook is taken back.
  void FillTheDisk() {
    disk_->SetHook([](FakeDisk::Call call) -> absl::Status {
      return call == FakeDisk::Call::kWrite ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
    });
  }
  // Records whose memory the process has.
  int64_t TouchedRecords() const { return store_->reserved_row_count() - store_->row_count() + store_->statistics().slab_rows; }

  HeadSpec head_;
  int64_t memory_bytes_ = 0;
  int64_t step_ = 0;
  std::unique_ptr<FakeDisk> disk_;
  std::unique_ptr<TieredRowStore> store_;
};

TEST_F(StoreMemoryTest, WithLessMemoryWhatIsOverGoesToTheDisk) {
  Make(DataType::kBFloat16, /*records=*/500, /*queue_records=*/50);
  for (int64_t first = 0; first < 2000; first += 20) ASSERT_TRUE(Step(Range(first, 20)).ok());
  EXPECT_EQ(TouchedRecords(), 500);
  ASSERT_TRUE(store_->SetMemory(memory_bytes_ * 3 / 5, /*queue_records=*/20).ok());
  EXPECT_EQ(store_->slab_limit_rows(), 300);
  EXPECT_EQ(TouchedRecords(), 300);
  for (const int64_t count : {100, 300}) {
    ASSERT_TRUE(Step(Range(1000, count)).ok()) << "16-bit rows take no more room while a step works on them";
    EXPECT_LE(TouchedRecords(), 300) << count;
  }
  EXPECT_FALSE(Step(Range(1000, 301)).ok());
  std::vector<float> weights(2000 * kDim);
  ASSERT_TRUE(store_->Read(Range(0, 2000), weights.data(), nullptr, nullptr, nullptr).ok());
  for (int64_t id = 0; id < 1000; ++id) ASSERT_EQ(weights[id * kDim], static_cast<float>(id / 20)) << id;
}

TEST_F(StoreMemoryTest, AnAnnouncedRowThatCannotBeReadTakesNoRecordForEver) {
  Make(DataType::kFloat32, /*records=*/100, /*queue_records=*/400);
  for (int64_t first = 0; first < 400; first += 50) ASSERT_TRUE(Step(Range(first, 50)).ok());
  ASSERT_TRUE(store_->Flush().ok());
  for (int round = 0; round < 5; ++round) {
    absl::Notification pinning;
    disk_->SetHook([&](FakeDisk::Call call) -> absl::Status {
      if (call != FakeDisk::Call::kRead) return absl::OkStatus();
      pinning.WaitForNotification();
      return absl::UnavailableError("the disk is tired");
    });
    store_->Announce(Range(0, 60));
    pinning.Notify();
    // More than fit: it waits for what was announced, and is refused.
    EXPECT_FALSE(Step(Range(0, 101)).ok());
    disk_->SetHook(nullptr);
    for (int64_t first = 200; first < 400; first += 100) ASSERT_TRUE(Step(Range(first, 100)).ok());
    EXPECT_LE(TouchedRecords(), 100) << round;
  }
}

// Its memory is of the share that a head has.
TEST_F(StoreMemoryTest, TheQueueGetsOtherRoomAndNothingThatWasInItIsLost) {
  Make(DataType::kFloat32, /*records=*/100, /*queue_records=*/50);
  const auto step_with_the_disk_full = [&](const std::vector<int64_t>& ids) {
    FillTheDisk();
    const absl::Status status = Step(ids);
    disk_->SetHook(nullptr);
    return status;
  };
  for (const int64_t queue_records : {80, 30}) {
    ASSERT_TRUE(Step(Range(0, 100)).ok());
    ASSERT_TRUE(Step(Range(200, 20)).ok()) << "20 rows give way to them";
    ASSERT_TRUE(store_->SetMemory(memory_bytes_, queue_records).ok());
    EXPECT_EQ(store_->statistics().queued_rows, 0);
    EXPECT_TRUE(step_with_the_disk_full(Range(300, queue_records)).ok()) << "as many give way, into the queue";
    EXPECT_TRUE(absl::IsResourceExhausted(step_with_the_disk_full(Range(400, 1)))) << "and no more";
    std::vector<float> weights(100 * kDim);
    ASSERT_TRUE(store_->Read(Range(0, 100), weights.data(), nullptr, nullptr, nullptr).ok());
    for (int64_t id = 0; id < 100; ++id) ASSERT_EQ(weights[id * kDim], static_cast<float>(step_ - 3)) << id;
  }
}

// Queued rows are kept by the queue that has them.
TEST_F(StoreMemoryTest, TheQueueStaysAsItIsWhileTheDiskRefusesWhatIsInIt) {
  Make(DataType::kFloat32, /*records=*/100, /*queue_records=*/50);
  ASSERT_TRUE(Step(Range(0, 100)).ok());
  FillTheDisk();
  ASSERT_TRUE(Step(Range(200, 20)).ok());
  const absl::Status refused = store_->SetMemory(memory_bytes_, /*queue_records=*/10);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  ASSERT_TRUE(Step(Range(200, 10)).ok()) << "it fits, and needs no disk";
  disk_->SetHook(nullptr);
  ASSERT_TRUE(store_->Flush().ok());
  std::vector<float> weights(20 * kDim);
  ASSERT_TRUE(store_->Read(Range(200, 20), weights.data(), nullptr, nullptr, nullptr).ok());
  for (int64_t i = 0; i < 20; ++i) ASSERT_EQ(weights[i * kDim], i < 10 ? 2.0f : 1.0f) << i;
}

TEST_F(StoreMemoryTest, AStepThatWaitsForTheQueueSaysSo) {
  Make(DataType::kFloat32, /*records=*/100, /*queue_records=*/10);
  ASSERT_TRUE(Step(Range(0, 100)).ok());
  disk_->SetHook([](FakeDisk::Call call) {
    if (call == FakeDisk::Call::kWrite) absl::SleepFor(absl::Milliseconds(20));
    return absl::OkStatus();
  });
  RowStore::PinFigures figures;
  ASSERT_TRUE(Step(Range(100, 100), &figures).ok());
  EXPECT_EQ(figures.created, 100);
  // 90 rows that the queue has no room for, in writes of at most ten.
  EXPECT_GE(figures.disk_wait_seconds, 0.1);
}

TEST_F(StoreMemoryTest, AStepThatNeedsRoomIsRefusedWhileTheDiskIsFullAndOneThatFitsGoesOn) {
  Make(DataType::kFloat32, /*records=*/100, /*queue_records=*/10);
  ASSERT_TRUE(Step(Range(0, 100)).ok());
  FillTheDisk();
  const absl::Status refused = Step(Range(100, 100));
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(Step(Range(80, 10)).ok()) << refused;
  disk_->SetHook(nullptr);
  ASSERT_TRUE(store_->Flush().ok());
}

TEST_F(StoreMemoryTest, AStepFitsIfItsRowsAndThoseThatStayDo) {
  Make(DataType::kBFloat16, /*records=*/100, /*queue_records=*/10);
  EXPECT_TRUE(store_->CheckRowsFit({100, 100}).ok());
  const int64_t least = LeastMemory(head_, kClasses, memory_bytes_ / 100 * 101);
  for (const RowStore::StepRows& rows : {RowStore::StepRows{101, 101}, RowStore::StepRows{50, 101}}) {
    const absl::Status refused = store_->CheckRowsFit(rows);
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(absl::StrCat("give at least ", (least >> 20) + 1, " MiB")));
  }
  EXPECT_TRUE(store_->CheckRowsFit({200, 200}, 2 * memory_bytes_).ok());
  EXPECT_FALSE(store_->CheckRowsFit({100, 100}, memory_bytes_ - 1).ok());
}

}  // namespace
}  // namespace myriad
