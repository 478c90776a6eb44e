// Heads that earlier versions have left on disk.
#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/store/head_folder.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

namespace fs = std::filesystem;

// A copy that can be written to.
void CopyTo(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path copy = to / entry.path().filename();
    fs::copy_file(fs::canonical(entry.path()), copy);
    fs::permissions(copy, fs::perms::owner_read | fs::perms::owner_write);
  }
}

HeadFolder::Opened MustOpen(const std::string& path) {
  HeadFolder::Options options;
  options.memory_bytes = int64_t{200} << 20;
  options.available_memory = [] { return int64_t{1} << 40; };
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(path, options);
  EXPECT_TRUE(opened.ok()) << opened.status();
  return opened.ok() ? *std::move(opened) : HeadFolder::Opened();
}

// The rows of a golden head: those of `changed` have twice their first weights and no slots.
void CheckRows(const TieredRowStore& rows, const std::vector<int64_t>& changed) {
  EXPECT_EQ(rows.row_count(), 5);
  const std::vector<int64_t> ids = {0, 1, 4095, 4096, 4999};
  std::vector<float> weights(20), slots(20);
  std::vector<uint8_t> exists(5);
  ASSERT_TRUE(rows.Read(ids, weights.data(), slots.data(), exists.data(), nullptr).ok());
  EXPECT_EQ(exists, std::vector<uint8_t>(5, 1));
  for (int i = 0; i < 20; ++i) {
    const bool is_changed = std::count(changed.begin(), changed.end(), ids[i / 4]) > 0;
    EXPECT_EQ(weights[i], (static_cast<float>(i) * 0.5f - 3.0f) * (is_changed ? 2 : 1)) << i;
    EXPECT_EQ(slots[i], is_changed ? 0.0f : static_cast<float>(i) * 0.125f) << i;
  }
}

void CheckHead(const std::string& path, const std::vector<int64_t>& changed) {
  const HeadFolder::Opened opened = MustOpen(path);
  ASSERT_NE(opened.folder, nullptr);
  const HeadState& state = opened.folder->state();
  EXPECT_EQ(state.head.name, "golden");
  EXPECT_EQ(state.head.class_count, 5000);
  EXPECT_EQ(state.head.embedding_dim, 4);
  EXPECT_EQ(state.head.weight_dtype, DataType::kBFloat16);
  EXPECT_EQ(state.head.slot_dtype, DataType::kFloat32);
  EXPECT_EQ(state.head.seed, 7u);
  EXPECT_EQ(state.shard_index, 0);
  EXPECT_EQ(state.shard_count, 1);
  EXPECT_EQ(state.committed_steps, 0);
  EXPECT_FALSE(opened.folder->mixed_steps().has_value()) << "it was closed";
  CheckRows(*opened.rows, changed);
}

TEST(GoldenHeadTest, AHeadOfVersionOneOpensWithEveryRowAndGoesOn) {
  TempDir dir;
  CopyTo("tests/testdata/head_v1", dir.File("golden"));
  CheckHead(dir.File("golden"), {});
  {
    const HeadFolder::Opened opened = MustOpen(dir.File("golden"));
    ASSERT_NE(opened.folder, nullptr);
    const std::vector<float> weights = {-2, -1, 0, 1, 10, 11, 12, 13};  // Of rows 1 and 4999.
    ASSERT_TRUE(opened.folder->MarkInUse().ok());
    ASSERT_TRUE(opened.rows->Write({1, 4999}, weights.data(), nullptr).ok());
    ASSERT_TRUE(opened.folder->MarkClean(0).ok());
  }
  CheckHead(dir.File("golden"), {1, 4999});
}

// What the test above leaves behind: records of both column families.
TEST(GoldenHeadTest, AHeadOfVersionTwoOpensWithEveryRow) {
  TempDir dir;
  CopyTo("tests/testdata/head_v2", dir.File("golden"));
  CheckHead(dir.File("golden"), {1, 4999});
}

}  // namespace
}  // namespace myriad
