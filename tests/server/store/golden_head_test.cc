// Heads that earlier versions have left on disk.
#include <filesystem>
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

TEST(GoldenHeadTest, AHeadOfVersionOneOpensWithEveryRow) {
  TempDir dir;
  CopyTo("tests/testdata/head_v1", dir.File("golden"));
  HeadFolder::Options options;
  options.memory_bytes = int64_t{200} << 20;
  options.available_memory = [] { return int64_t{1} << 40; };
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(dir.File("golden"), options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const HeadState& state = opened->folder->state();
  EXPECT_EQ(state.head.name, "golden");
  EXPECT_EQ(state.head.class_count, 5000);
  EXPECT_EQ(state.head.embedding_dim, 4);
  EXPECT_EQ(state.head.weight_dtype, DataType::kBFloat16);
  EXPECT_EQ(state.head.slot_dtype, DataType::kFloat32);
  EXPECT_EQ(state.head.seed, 7u);
  EXPECT_EQ(state.shard_index, 0);
  EXPECT_EQ(state.shard_count, 1);
  EXPECT_EQ(state.committed_steps, 0);
  EXPECT_FALSE(opened->folder->mixed_steps().has_value()) << "it was closed";

  EXPECT_EQ(opened->rows->row_count(), 5);
  const std::vector<int64_t> ids = {0, 1, 4095, 4096, 4999};
  std::vector<float> weights(20), slots(20);
  std::vector<uint8_t> exists(5);
  ASSERT_TRUE(opened->rows->Read(ids, weights.data(), slots.data(), exists.data(), nullptr).ok());
  EXPECT_EQ(exists, std::vector<uint8_t>(5, 1));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(weights[i], static_cast<float>(i) * 0.5f - 3.0f) << i;
    EXPECT_EQ(slots[i], static_cast<float>(i) * 0.125f) << i;
  }
}

}  // namespace
}  // namespace myriad
