// What a folder says of its rows when the disk fails just as that is written.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/store/cold_store_rocksdb.h"
#include "server/store/head_folder.h"
#include "tests/testing/server/change_rows.h"
#include "tests/testing/server/faulty_files.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int kDim = 8;

// A head on a disk that fails on demand.
class HeadFolderFaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HeadState state;
    state.head.name = "faces";
    state.head.class_count = 2000;
    state.head.embedding_dim = kDim;
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir_.File("faces"), state, Options());
    ASSERT_TRUE(made.ok()) << made.status();
    head_ = *std::move(made);
  }
  HeadFolder::Options Options() {
    HeadFolder::Options options;
    options.memory_bytes = int64_t{256} << 20;
    options.available_memory = [] { return int64_t{1} << 40; };
    options.open_cold = [this](const ColdStore::Options& cold) { return OpenColdStoreOn(files_, cold); };
    return options;
  }
  // As after a kill: what was not durable is gone.
  void Reopen() {
    head_.folder.reset();
    head_.rows.reset();
    absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(dir_.File("faces"), Options());
    ASSERT_TRUE(opened.ok()) << opened.status();
    head_ = *std::move(opened);
  }
  absl::Status Step(int64_t step) {
    RowStore::PinFigures figures;
    if (absl::Status status = head_.rows->Pin(step, {1, 2, 3}, &figures); !status.ok()) return status;
    ChangeRows(head_.rows.get(), [&](int64_t, float* weights, float*) { weights[0] = static_cast<float>(step); });
    head_.rows->Commit();
    return absl::OkStatus();
  }
  // The disk works again, but it may take RocksDB some tries of its own to see so.
  template <typename Call>
  void WithinSomeTries(Call call) {
    files_->SetHook(nullptr);
    absl::Status status = call();
    for (int i = 0; i < 100 && !status.ok(); ++i) {
      absl::SleepFor(absl::Milliseconds(50));
      status = call();
    }
    ASSERT_TRUE(status.ok()) << status;
  }

  TempDir dir_;
  std::shared_ptr<FaultyFiles> files_ = std::make_shared<FaultyFiles>();
  HeadFolder::Opened head_;
};

// The note may reach the disk later by itself: rows wait until it is taken back.
TEST_F(HeadFolderFaultsTest, AfterAMarkThatFailedRowsDoNotMoveUntilTheDiskSaysInUse) {
  ASSERT_TRUE(head_.folder->MarkOpened(1, TrainingSpec(), 0).ok());
  ASSERT_TRUE(Step(0).ok());
  ASSERT_TRUE(head_.rows->Flush().ok());
  files_->SetHook(DiskFull);
  EXPECT_TRUE(absl::IsResourceExhausted(head_.folder->MarkClean(1)));
  EXPECT_TRUE(absl::IsResourceExhausted(Step(1)));
  EXPECT_TRUE(absl::IsResourceExhausted(head_.rows->Write({1}, std::vector<float>(kDim).data(), nullptr)));
  WithinSomeTries([&] { return Step(1); });
  ASSERT_TRUE(head_.rows->Flush().ok());
  Reopen();
  EXPECT_TRUE(head_.folder->mixed_steps().has_value());
}

TEST_F(HeadFolderFaultsTest, AfterASaveThatCouldNotBeLinkedRowsDoNotMoveUntilTheDiskSaysInUse) {
  ASSERT_TRUE(head_.folder->MarkOpened(1, TrainingSpec(), 0).ok());
  ASSERT_TRUE(Step(0).ok());
  EXPECT_FALSE(head_.folder->SaveTo(dir_.File("nowhere/save"), 1).ok());
  files_->SetHook(DiskFull);
  EXPECT_TRUE(absl::IsResourceExhausted(Step(1)));
  WithinSomeTries([&] { return Step(1); });
  Reopen();
  EXPECT_TRUE(head_.folder->mixed_steps().has_value());
}

TEST_F(HeadFolderFaultsTest, AMarkOfARunThatWasNotTakenDoesNotOutliveACleanStop) {
  files_->SetHook(DiskFull);
  EXPECT_TRUE(absl::IsResourceExhausted(head_.folder->MarkOpened(9, TrainingSpec(), 0)));
  // It lies in memory beside this one, and gets to the disk with it.
  WithinSomeTries([&] { return head_.rows->cold()->PutNote("other", "note"); });
  ASSERT_TRUE(head_.folder->MarkClean(0).ok());
  Reopen();
  EXPECT_FALSE(head_.folder->mixed_steps().has_value());
  EXPECT_EQ(head_.folder->state().incarnation, 0);
}

TEST_F(HeadFolderFaultsTest, ClassesThatCouldNotBeStoredAreTakenBack) {
  files_->SetHook(DiskFull);
  EXPECT_TRUE(absl::IsResourceExhausted(head_.folder->Grow(5000)));
  EXPECT_EQ(head_.folder->state().head.class_count, 2000);
  WithinSomeTries([&] { return head_.folder->MarkClean(0); });
  Reopen();
  EXPECT_EQ(head_.folder->state().head.class_count, 2000);
}

}  // namespace
}  // namespace myriad
