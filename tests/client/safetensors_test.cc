#include "client/safetensors.h"

#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

std::string FileWithHeader(const std::string& header, int data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, 'x');
}

std::vector<float> Sequence(int count, float start) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), start);
  return values;
}

TEST(SafetensorsTest, WhatIsWrittenInTurnsIsReadBack) {
  TempDir dir;
  const std::string path = dir.File("a.safetensors");
  const std::vector<int64_t> ids = {5, 7, int64_t{1} << 40};
  const std::vector<float> rows = Sequence(6, 0.5f);
  {
    auto writer = SafetensorsWriter::Create(path, {{"ids", TensorType::kI64, {3}}, {"rows", TensorType::kF32, {3, 2}}}, {{"head", "f"}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE((*writer)->Append(0, AsBytes<int64_t>({&ids[i], 1})).ok());
      ASSERT_TRUE((*writer)->Append(1, AsBytes<float>({&rows[2 * i], 2})).ok());
    }
    EXPECT_EQ(std::ifstream(path).is_open(), false) << "a reader could see an unfinished file";
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  EXPECT_EQ(dir.CountEntries(), 1);
  auto reader = SafetensorsReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->metadata().at("head"), "f");
  ASSERT_EQ((*reader)->tensors().size(), 2);
  const auto view = (*reader)->Find("rows");
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->info->shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(TensorTypeName(view->info->type), "F32");
  ASSERT_EQ(view->bytes.size(), 24);
  EXPECT_EQ(std::memcmp(view->bytes.data(), rows.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view->bytes.data()) % 8, 0) << "an aligned file may be read in place";
  EXPECT_EQ(std::memcmp((*reader)->Find("ids")->bytes.data(), ids.data(), 24), 0);
  EXPECT_THAT((*reader)->Find("other").status().message(), HasSubstr("no tensor 'other'"));
}

TEST(SafetensorsTest, EmptyTensorsAndScalarsHaveTheirShapes) {
  TempDir dir;
  const std::string path = dir.File("a.safetensors");
  auto writer = SafetensorsWriter::Create(path, {{"none", TensorType::kF32, {0, 512}}, {"one", TensorType::kU8, {}}}, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(1, absl::string_view("x")).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  auto reader = SafetensorsReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->Find("none")->info->shape, (std::vector<int64_t>{0, 512}));
  EXPECT_EQ((*reader)->Find("one")->bytes.size(), 1);
}

TEST(SafetensorsTest, AnUnfinishedFileIsRefusedAndLeavesNothing) {
  TempDir dir;
  const std::string path = dir.File("a.safetensors");
  {
    auto writer = SafetensorsWriter::Create(path, {{"rows", TensorType::kF32, {4}}}, {});
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Append(0, absl::string_view("12345678")).ok());
    const absl::Status status = (*writer)->Finish();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(status.message(), HasSubstr("tensor rows: 8 of 16 bytes"));
    EXPECT_EQ((*writer)->Append(0, absl::string_view("123456789")).code(), absl::StatusCode::kOutOfRange);
  }
  EXPECT_EQ(dir.CountEntries(), 0);
}

TEST(SafetensorsTest, WriterRefusesNamesAndShapesThatNoFileCanHave) {
  TempDir dir;
  const std::string path = dir.File("a.safetensors");
  EXPECT_EQ(SafetensorsWriter::Create(path, {{"a", TensorType::kF32, {1}}, {"a", TensorType::kF32, {1}}}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsWriter::Create(path, {{"a", TensorType::kF32, {-1}}}, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsWriter::Create(path, {{"a", TensorType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsWriter::Create(dir.File("no/folder"), {}, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(dir.CountEntries(), 0);
}

struct BadFile {
  const char* name;
  std::string content;
  absl::StatusCode code;
  const char* message;
};

TEST(SafetensorsTest, DamagedAndForeignFilesAreRefusedByName) {
  const std::string one = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  uint64_t huge = uint64_t{1} << 62;
  const std::vector<BadFile> cases = {
      {"Empty", "", absl::StatusCode::kInvalidArgument, "0 bytes"},
      {"NoHeader", FileWithHeader("", 8), absl::StatusCode::kInvalidArgument, "'{'"},
      {"NotJson", FileWithHeader("{\"a\":", 8), absl::StatusCode::kInvalidArgument, "header"},
      {"HugeLength", std::string(reinterpret_cast<char*>(&huge), 8) + one, absl::StatusCode::kInvalidArgument, "4611686018427387904"},
      {"HeaderCut", FileWithHeader(one, 0).substr(0, 30), absl::StatusCode::kDataLoss, "the header needs"},
      {"DataCut", FileWithHeader(one, 7), absl::StatusCode::kDataLoss, "tensor a ends at byte 8"},
      {"DataTooLong", FileWithHeader(one, 9), absl::StatusCode::kDataLoss, "tensors end at byte 8"},
      {"UnknownType", FileWithHeader(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8), absl::StatusCode::kInvalidArgument,
       "'F31'"},
      {"ShapeDoesNotFit", FileWithHeader(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), absl::StatusCode::kDataLoss,
       "shape [3] F32 has 8 bytes"},
      {"ShapeOverflows", FileWithHeader(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0),
       absl::StatusCode::kDataLoss, "a"},
      {"NegativeShape", FileWithHeader(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), absl::StatusCode::kDataLoss,
       "[-2]"},
      {"Overlap",
       FileWithHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                      12),
       absl::StatusCode::kDataLoss, "tensor b lies at bytes [4, 12)"},
      {"Hole", FileWithHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), absl::StatusCode::kDataLoss,
       "expected to start at 0"},
      {"Backwards", FileWithHeader(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,-8]}})", 0), absl::StatusCode::kDataLoss, "a"},
      {"NoOffsets", FileWithHeader(R"({"a":{"dtype":"F32","shape":[2]}})", 8), absl::StatusCode::kInvalidArgument, "data_offsets"},
      {"MetadataIsNoText", FileWithHeader(R"({"__metadata__":{"step":3}})", 0), absl::StatusCode::kInvalidArgument, "__metadata__"},
  };
  for (const BadFile& bad : cases) {
    SCOPED_TRACE(bad.name);
    TempDir dir;
    const std::string path = dir.File("bad.safetensors");
    WriteText(path, bad.content);
    const absl::Status status = SafetensorsReader::Open(path).status();
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(status.message(), HasSubstr(bad.message));
    EXPECT_THAT(status.message(), HasSubstr(path));
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  }
  EXPECT_EQ(SafetensorsReader::Open("/nowhere/x").status().code(), absl::StatusCode::kNotFound);
}

// Whatever happens to a header, a reader answers; it never reads outside of the file (run under asan).
TEST(SafetensorsTest, NoChangedByteBringsTheReaderDown) {
  TempDir dir;
  const std::string good = FileWithHeader(
      R"({"__metadata__":{"head":"f"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}})",
      16);
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string bad = good;
    bad[random() % bad.size()] = static_cast<char>(random());
    if (round % 4 == 0) bad.resize(random() % bad.size());
    const std::string path = dir.File("bad.safetensors");
    WriteText(path, bad);
    const auto reader = SafetensorsReader::Open(path);
    refused += !reader.ok();
    if (!reader.ok()) continue;
    int64_t bytes = 0;
    for (const TensorInfo& tensor : (*reader)->tensors()) bytes += (*reader)->Find(tensor.name)->bytes.size();
    EXPECT_LE(bytes, 16);
  }
  EXPECT_GT(refused, 250);
}

}  // namespace
}  // namespace myriad
