#include "server/store/head_folder.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/server/change_rows.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

constexpr int kDim = 8;
constexpr int64_t kClasses = 2000;

HeadState FacesState() {
  HeadState state;
  state.head.name = "faces";
  state.head.class_count = kClasses;
  state.head.embedding_dim = kDim;
  state.head.seed = 3;
  state.shard_index = 0;
  state.shard_count = 1;
  return state;
}

HeadFolder::Options FolderOptions(int64_t memory_mib = 256) {
  HeadFolder::Options options;
  options.memory_bytes = memory_mib << 20;
  options.available_memory = [] { return int64_t{1} << 40; };
  return options;
}

std::vector<int64_t> Range(int64_t first, int64_t end) {
  std::vector<int64_t> ids(end - first);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

void Step(TieredRowStore* rows, absl::Span<const int64_t> ids, int64_t step) {
  RowStore::PinFigures figures;
  ASSERT_TRUE(rows->Pin(step, ids, &figures).ok());
  ChangeRows(rows, [&](int64_t, float* weights, float*) { weights[0] = static_cast<float>(step) + 0.5f; });
  rows->Commit();
}

// First weight and step of each row, virtual ones too.
std::vector<std::pair<float, int64_t>> ReadAll(const TieredRowStore& rows) {
  std::vector<float> weights(kClasses * kDim);
  std::vector<int64_t> steps(kClasses);
  EXPECT_TRUE(rows.Read(Range(0, kClasses), weights.data(), nullptr, nullptr, steps.data()).ok());
  std::vector<std::pair<float, int64_t>> result;
  for (int64_t i = 0; i < kClasses; ++i) result.emplace_back(weights[i * kDim], steps[i]);
  return result;
}

TEST(HeadFolderTest, AClosedHeadComesBackAsItWas) {
  TempDir dir;
  const std::string path = dir.File("faces");
  std::vector<std::pair<float, int64_t>> expected;
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(path, FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    TrainingSpec training;
    training.margin.scale = 48;
    ASSERT_TRUE(made->folder->MarkOpened(7, training, 0).ok());
    for (int64_t step = 0; step < 5; ++step) Step(made->rows.get(), Range(100 * step, 100 * step + 300), step);
    ASSERT_TRUE(made->folder->MarkClean(5).ok());
    expected = ReadAll(*made->rows);
  }
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(path, FolderOptions());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->folder->state().head, FacesState().head);
  EXPECT_EQ(opened->folder->state().incarnation, 7);
  EXPECT_EQ(opened->folder->state().committed_steps, 5);
  ASSERT_TRUE(opened->folder->state().training.has_value());
  EXPECT_EQ(opened->folder->state().training->margin.scale, 48);
  EXPECT_FALSE(opened->folder->mixed_steps().has_value());
  EXPECT_EQ(opened->rows->row_count(), 700);
  EXPECT_EQ(ReadAll(*opened->rows), expected);
}

// Rows that nobody touches stand where the steps have moved them, and go on from there.
TEST(HeadFolderTest, IdleRowsOfAClosedHeadComeBackAsTheyStood) {
  TempDir dir;
  const std::string path = dir.File("faces");
  const SgdStep idle = {/*momentum=*/0.9f, /*coupled_decay=*/0.01f, /*decoupled_decay=*/0.0f, /*rate=*/0.1f};
  const auto step = [&](TieredRowStore* rows, absl::Span<const int64_t> ids, int64_t number) {
    RowStore::PinFigures figures;
    ASSERT_TRUE(rows->Pin(number, ids, &figures).ok());
    ASSERT_TRUE(rows->MoveIdleRows(idle).ok());
    ChangeRows(rows, [](int64_t, float* weights, float*) { weights[0] = 1.0f; });
    rows->Commit();
  };
  std::vector<std::pair<float, int64_t>> expected;
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(path, FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 0).ok());
    for (int64_t number = 0; number < 300; ++number) step(made->rows.get(), Range(2 * number, 2 * number + 2), number);
    expected = ReadAll(*made->rows);
    ASSERT_TRUE(made->folder->MarkClean(300).ok());
    EXPECT_EQ(ReadAll(*made->rows), expected);
  }
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(path, FolderOptions());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(ReadAll(*opened->rows), expected);
  EXPECT_LT(expected[0].first, 0.9f);
  step(opened->rows.get(), Range(0, 1), 300);
  for (const auto& [row, before] : {std::make_pair(1, expected[1]), std::make_pair(1999, expected[1999])}) {
    EXPECT_LT(std::abs(ReadAll(*opened->rows)[row].first), std::abs(before.first)) << "row " << row;
  }
}

// Whether it is closed afterwards or its server is killed.
TEST(HeadFolderTest, AGrownHeadKeepsItsRowsAndItsNewClasses) {
  for (const bool closed : {false, true}) {
    SCOPED_TRACE(closed ? "closed" : "killed");
    TempDir dir;
    std::vector<std::pair<float, int64_t>> expected;
    {
      absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
      ASSERT_TRUE(made.ok()) << made.status();
      ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 0).ok());
      Step(made->rows.get(), Range(0, 300), 0);
      ASSERT_TRUE(made->folder->MarkClean(1).ok());
      if (!closed) {
        ASSERT_TRUE(made->folder->MarkInUse().ok());
      }
      ASSERT_TRUE(made->folder->Grow(3 * kClasses).ok());
      expected = ReadAll(*made->rows);
    }
    absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(dir.File("faces"), FolderOptions());
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->folder->state().head.class_count, 3 * kClasses);
    EXPECT_EQ(opened->rows->row_count(), 300);
    EXPECT_EQ(ReadAll(*opened->rows), expected);
    Step(opened->rows.get(), {3 * kClasses - 1}, 1);
    EXPECT_EQ(opened->rows->row_count(), 301);
  }
}

TEST(HeadFolderTest, AHeadThatWasNotClosedSaysBetweenWhichStepsItsRowsLie) {
  TempDir dir;
  const std::string path = dir.File("faces");
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(path, FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 0).ok());
    Step(made->rows.get(), Range(0, 50), 3);
    ASSERT_TRUE(made->rows->Flush().ok());
    Step(made->rows.get(), Range(40, 90), 9);
    ASSERT_TRUE(made->rows->Flush().ok());
    Step(made->rows.get(), Range(0, 1000), 12);  // Only in memory.
  }
  for (int attempt = 0; attempt < 2; ++attempt) {
    absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(path, FolderOptions());
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_TRUE(opened->folder->mixed_steps().has_value()) << "opening it makes nothing good";
    EXPECT_EQ(opened->folder->mixed_steps()->oldest, 3);
    EXPECT_EQ(opened->folder->mixed_steps()->newest, 9);
    EXPECT_EQ(opened->folder->state().committed_steps, 10);
    EXPECT_EQ(opened->rows->row_count(), 90);
    const auto rows = ReadAll(*opened->rows);
    EXPECT_EQ(rows[0], std::make_pair(3.5f, int64_t{3}));
    EXPECT_EQ(rows[45], std::make_pair(9.5f, int64_t{9}));
    EXPECT_EQ(rows[500].second, -1);
    if (attempt == 1) {
      ASSERT_TRUE(opened->folder->MarkOpened(2, TrainingSpec(), 10).ok());
      EXPECT_FALSE(opened->folder->mixed_steps().has_value());
    }
  }
}

// Its rows may have moved in memory.
TEST(HeadFolderTest, AHeadThatWasNotClosedAndHasNoRowOnDiskSaysSo) {
  TempDir dir;
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 4).ok());
    Step(made->rows.get(), Range(0, 50), 4);
  }
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(dir.File("faces"), FolderOptions());
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_TRUE(opened->folder->mixed_steps().has_value());
  EXPECT_EQ(opened->folder->mixed_steps()->oldest, -1);
  EXPECT_EQ(opened->folder->mixed_steps()->newest, 3);
  EXPECT_EQ(opened->folder->state().committed_steps, 4);
}

// Whoever changes rows need not think of it.
TEST(HeadFolderTest, RowsThatMoveMarkTheFolderAsInUse) {
  TempDir dir;
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    Step(made->rows.get(), Range(0, 50), 0);
    ASSERT_TRUE(made->folder->MarkClean(1).ok());
    Step(made->rows.get(), Range(0, 50), 1);
    EXPECT_FALSE(made->folder->state().clean);
  }
  EXPECT_TRUE(HeadFolder::Open(dir.File("faces"), FolderOptions())->folder->mixed_steps().has_value());
}

TEST(HeadFolderTest, ASaveIsTheHeadAtOneInstant) {
  TempDir dir;
  std::vector<std::pair<float, int64_t>> expected;
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 0).ok());
    Step(made->rows.get(), Range(0, 500), 0);
    expected = ReadAll(*made->rows);
    ASSERT_TRUE(made->folder->SaveTo(dir.File("save"), 1).ok());
    EXPECT_TRUE(absl::IsAlreadyExists(made->folder->SaveTo(dir.File("save"), 1)));
    Step(made->rows.get(), Range(200, 900), 1);
    ASSERT_TRUE(made->rows->Flush().ok());
  }
  absl::StatusOr<HeadFolder::Opened> saved = HeadFolder::Open(dir.File("save"), FolderOptions());
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_FALSE(saved->folder->mixed_steps().has_value());
  EXPECT_EQ(saved->folder->state().committed_steps, 1);
  EXPECT_EQ(ReadAll(*saved->rows), expected);
  absl::StatusOr<HeadFolder::Opened> live = HeadFolder::Open(dir.File("faces"), FolderOptions());
  ASSERT_TRUE(live.ok()) << live.status();
  EXPECT_TRUE(live->folder->mixed_steps().has_value()) << "it was in use when the process ended";
}

TEST(HeadFolderTest, AStepThatWasDecidedAndNotAppliedIsNoCleanStop) {
  TempDir dir;
  absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_TRUE(made->folder->MarkOpened(1, TrainingSpec(), 0).ok());
  Step(made->rows.get(), Range(0, 5), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(made->folder->MarkClean(2)));
  EXPECT_FALSE(made->folder->state().clean);
}

TEST(HeadFolderTest, WhatIsNoHeadIsRefused) {
  TempDir dir;
  EXPECT_TRUE(absl::IsNotFound(HeadFolder::Open(dir.File("nothing"), FolderOptions()).status()));
  std::filesystem::create_directory(dir.File("empty"));
  EXPECT_TRUE(absl::IsNotFound(HeadFolder::Open(dir.File("empty"), FolderOptions()).status()));
  {
    absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions());
    ASSERT_TRUE(made.ok()) << made.status();
    const absl::Status held = HeadFolder::Open(dir.File("faces"), FolderOptions()).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(held)) << held;
    EXPECT_THAT(std::string(held.message()), HasSubstr("faces"));
  }
  std::filesystem::remove(dir.File("faces/CURRENT"));
  EXPECT_TRUE(absl::IsDataLoss(HeadFolder::Open(dir.File("faces"), FolderOptions()).status()));
}

TEST(HeadFolderTest, TooLittleMemoryIsRefusedWithTheLeastThatWouldDo) {
  TempDir dir;
  const absl::Status status = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions(4)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("give at least "));
  int64_t least = 0;
  ASSERT_EQ(sscanf(std::string(status.message()).c_str() + status.message().find("give at least "), "give at least %ld MiB", &least), 1);
  const absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), FacesState(), FolderOptions(least));
  ASSERT_TRUE(made.ok()) << made.status();
  // With a step's rows it is more, whatever the head has now: the queue has a part of it too.
  for (const int64_t now : {least, least + 500, least + 4000}) {
    for (const int64_t rows : {200000, 2000000, 60000000}) {
      ASSERT_TRUE(made->folder->SetMemory(now << 20).ok());
      const absl::Status refused = made->rows->CheckRowsFit({rows, rows});
      if (refused.ok()) continue;
      const std::string message(refused.message());
      int64_t wanted = 0;
      ASSERT_EQ(sscanf(message.c_str() + message.find("give at least "), "give at least %ld MiB", &wanted), 1) << message;
      ASSERT_TRUE(made->folder->SetMemory(wanted << 20).ok());
      EXPECT_TRUE(made->rows->CheckRowsFit({rows, rows}).ok()) << message;
      ASSERT_TRUE(made->folder->SetMemory((wanted - 2) << 20).ok());
      EXPECT_FALSE(made->rows->CheckRowsFit({rows, rows}).ok()) << "it was not the least: " << message;
    }
  }
}

// Heads that come later take from those that are there: their rows go to the disk, and none is lost.
TEST(HeadFolderTest, WithLessMemoryRowsGoToTheDisk) {
  TempDir dir;
  HeadState state = FacesState();
  state.head.class_count = 200000;
  state.head.embedding_dim = 512;
  absl::StatusOr<HeadFolder::Opened> made = HeadFolder::Create(dir.File("faces"), state, FolderOptions(340));
  ASSERT_TRUE(made.ok()) << made.status();
  for (int64_t step = 0; step < 4; ++step) Step(made->rows.get(), Range(10000 * step, 10000 * step + 10000), step);
  const int64_t before = made->rows->statistics().slab_rows;
  EXPECT_EQ(before, 40000);
  ASSERT_TRUE(made->folder->SetMemory(200 << 20).ok());
  EXPECT_LT(made->rows->statistics().slab_rows, before);
  EXPECT_LE(made->rows->reserved_row_count() - made->rows->row_count(), 0);
  std::vector<float> weights(40000 * 512);
  ASSERT_TRUE(made->rows->Read(Range(0, 40000), weights.data(), nullptr, nullptr, nullptr).ok());
  for (int64_t id = 0; id < 40000; ++id) ASSERT_EQ(weights[id * 512], static_cast<float>(id / 10000) + 0.5f) << id;
}

}  // namespace
}  // namespace myriad
