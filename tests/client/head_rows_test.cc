#include "client/head_rows.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

HeadSpec Spec(int dim) {
  HeadSpec spec;
  spec.name = "faces";
  spec.class_count = 10000;
  spec.embedding_dim = dim;
  return spec;
}

// Numbers that tell which class and element they belong to.
float WeightOf(int64_t id, int d) { return static_cast<float>(id) + 0.125f * d; }
float SlotOf(int64_t id, int d) { return -WeightOf(id, d); }

absl::Status AppendRows(const std::vector<int64_t>& ids, int dim, int slots, HeadRowsWriter* writer) {
  std::vector<float> weights;
  std::vector<float> slot_values;
  for (int64_t id : ids) {
    for (int d = 0; d < dim; ++d) weights.push_back(WeightOf(id, d));
    for (int d = 0; d < dim * slots; ++d) slot_values.push_back(SlotOf(id, d));
  }
  return writer->Append(ids, weights, slot_values);
}

// However rows come and however little memory there is, the file has them by ascending class.
TEST(HeadRowsTest, AnyOrderInAnyBufferIsFoundByClass) {
  for (const int64_t buffer_bytes : {int64_t{0}, int64_t{300}, int64_t{1} << 20}) {
    SCOPED_TRACE(absl::StrCat("buffer ", buffer_bytes));
    TempDir dir;
    const int dim = 7;
    std::vector<int64_t> ids(1000);
    for (int i = 0; i < 1000; ++i) ids[i] = int64_t{3} * i;
    std::shuffle(ids.begin(), ids.end(), std::mt19937(5));
    auto writer = HeadRowsWriter::Create({dir.path(), Spec(dim), buffer_bytes});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (size_t begin = 0; begin < ids.size();) {
      const size_t end = std::min(ids.size(), begin + 1 + begin % 97);
      ASSERT_TRUE(AppendRows({ids.begin() + begin, ids.begin() + end}, dim, 1, writer->get()).ok());
      begin = end;
    }
    ASSERT_TRUE((*writer)->Finish(42).ok());
    EXPECT_EQ(dir.CountEntries(), 1);
    auto reader = HeadRowsReader::Open(dir.path());
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->head(), "faces");
    EXPECT_EQ((*reader)->committed_steps(), 42);
    EXPECT_EQ((*reader)->row_count(), 1000);
    EXPECT_EQ((*reader)->embedding_dim(), dim);
    EXPECT_EQ((*reader)->slot_numbers(), dim);
    for (int64_t id = -1; id < 3001; ++id) {
      const auto row = (*reader)->Find(id);
      ASSERT_EQ(row.has_value(), id >= 0 && id < 3000 && id % 3 == 0) << id;
      if (!row.has_value()) continue;
      for (int d = 0; d < dim; ++d) {
        ASSERT_EQ(row->weights[d], WeightOf(id, d));
        ASSERT_EQ(row->slots[d], SlotOf(id, d));
      }
    }
  }
}

TEST(HeadRowsTest, AHeadWithoutRowsIsAFile) {
  TempDir dir;
  auto writer = HeadRowsWriter::Create({dir.path(), Spec(4)});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Finish(0).ok());
  auto reader = HeadRowsReader::Open(dir.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->row_count(), 0);
  EXPECT_EQ((*reader)->slot_numbers(), 4);
  EXPECT_FALSE((*reader)->Find(0).has_value());
}

TEST(HeadRowsTest, ARowThatComesTwiceIsRefusedAndNoFileIsLeft) {
  for (const int64_t buffer_bytes : {int64_t{0}, int64_t{1} << 20}) {
    TempDir dir;
    auto writer = HeadRowsWriter::Create({dir.path(), Spec(2), buffer_bytes});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(AppendRows({4, 9}, 2, 1, writer->get()).ok());
    ASSERT_TRUE(AppendRows({9}, 2, 1, writer->get()).ok());
    const absl::Status status = (*writer)->Finish(1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("class 9 came twice"));
    EXPECT_EQ(dir.CountEntries(), 0);
  }
}

TEST(HeadRowsTest, RowsOfAnotherWidthAreRefused) {
  TempDir dir;
  auto writer = HeadRowsWriter::Create({dir.path(), Spec(3)});
  ASSERT_TRUE(writer.ok());
  EXPECT_EQ(AppendRows({1}, 2, 1, writer->get()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AppendRows({-1}, 3, 1, writer->get()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(HeadRowsWriter::Create({dir.path(), Spec(0)}).status().code(), absl::StatusCode::kInvalidArgument);
}

// A file as another program would write it.
void WriteRowsFile(const std::string& path, const std::vector<int64_t>& ids, int dim, const std::string& steps) {
  const int64_t n = static_cast<int64_t>(ids.size());
  auto writer = SafetensorsWriter::Create(
      path, {{"class_ids", TensorType::kI64, {n}}, {"weights", TensorType::kF32, {n, dim}}, {"slots", TensorType::kF32, {n, dim}}},
      {{"head", "faces"}, {"committed_steps", steps}});
  ASSERT_TRUE(writer.ok());
  std::vector<float> values(ids.size() * dim, 1.0f);
  ASSERT_TRUE((*writer)->Append(0, AsBytes<int64_t>(ids)).ok());
  ASSERT_TRUE((*writer)->Append(1, AsBytes<float>(values)).ok());
  ASSERT_TRUE((*writer)->Append(2, AsBytes<float>(values)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

TEST(HeadRowsTest, ASetOfFilesIsOneHead) {
  TempDir dir;
  WriteRowsFile(HeadRowsPath(dir.path(), 0, 2), {4, 8}, 2, "5");
  EXPECT_THAT(HeadRowsReader::Open(dir.path()).status().message(), HasSubstr("rows-00001-of-00002.safetensors: missing"));
  EXPECT_EQ(HeadRowsReader::Open(dir.path()).status().code(), absl::StatusCode::kDataLoss);
  WriteRowsFile(HeadRowsPath(dir.path(), 1, 2), {1, 6}, 2, "5");
  auto reader = HeadRowsReader::Open(dir.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->row_count(), 4);
  for (int64_t id : {1, 4, 6, 8}) EXPECT_TRUE((*reader)->Find(id).has_value());
  EXPECT_FALSE((*reader)->Find(5).has_value());
}

TEST(HeadRowsTest, DamageIsToldByFile) {
  TempDir dir;
  EXPECT_EQ(HeadRowsReader::Open(dir.path()).status().code(), absl::StatusCode::kNotFound);
  const std::string path = HeadRowsPath(dir.path(), 0, 1);
  WriteRowsFile(path, {4, 4}, 2, "5");
  EXPECT_THAT(HeadRowsReader::Open(dir.path()).status().message(), HasSubstr(path + ": damaged: class id 4 of row 1 follows 4"));
  WriteRowsFile(path, {4, 5}, 2, "five");
  EXPECT_EQ(HeadRowsReader::Open(dir.path()).status().code(), absl::StatusCode::kInvalidArgument);
  // No row, so a width of any size takes no byte; as an int it would be 0.
  auto writer = SafetensorsWriter::Create(path,
                                          {{"class_ids", TensorType::kI64, {0}},
                                           {"weights", TensorType::kF32, {0, int64_t{1} << 32}},
                                           {"slots", TensorType::kF32, {0, int64_t{1} << 32}}},
                                          {{"head", "faces"}, {"committed_steps", "5"}});
  ASSERT_TRUE(writer.ok() && (*writer)->Finish().ok());
  EXPECT_EQ(HeadRowsReader::Open(dir.path()).status().code(), absl::StatusCode::kInvalidArgument);
  WriteRowsFile(path, {4, 5}, 2, "5");
  const std::string whole = ReadText(path);
  WriteText(path, whole.substr(0, whole.size() - 1));
  EXPECT_EQ(HeadRowsReader::Open(dir.path()).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace myriad
