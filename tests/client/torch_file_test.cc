#include "client/torch_file.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/client/torch_bytes.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace myriad::testing;  // NOLINT: pieces of files.

std::vector<float> Floats(const TensorView& view) {
  std::vector<float> values(view.bytes.size() / sizeof(float));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

absl::Status Open(const std::string& bytes) {
  TempDir dir;
  WriteText(dir.File("x.pt"), bytes);
  const auto file = TorchFile::Open(dir.File("x.pt"));
  if (!file.ok()) return file.status();
  for (const std::string& name : (*file)->names()) {
    if (const auto found = (*file)->Find(name); !found.ok()) return found.status();
  }
  return absl::OkStatus();
}

TEST(TorchFileTest, TensorsAreFoundUnderTheKeysOfTheirDicts) {
  TempDir dir;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::string parameter =
      Name("torch._utils", "_rebuild_parameter") +
      Tuple({Tensor("FloatStorage", "0", 8, 2, {2, 3}, {3, 1}), "\x88", Name("collections", "OrderedDict") + ")R"}) + "R";
  const std::string value =
      Dict({{"epoch", Int(3)},
            {"state_dict_softmax_fc", Dict({{"weight", parameter}, {"half", Tensor("HalfStorage", "1", 2, 0, {2}, {1})}})},
            {"turned", Tensor("FloatStorage", "0", 8, 0, {2, 4}, {1, 2})},
            {"strange", Tensor("ComplexFloatStorage", "0", 8, 0, {4}, {1})},
            {"scheduler", Name("some.module", "Scheduler") + ")\x81}" + Text("lr") + "K\x01sb"}});
  WriteText(dir.File("x.pt"), TorchBytes(value, {{"0", RawAll(values)}, {"1", "abcd"}}));
  const auto file = TorchFile::Open(dir.File("x.pt"));
  ASSERT_TRUE(file.ok()) << file.status();
  // Not row after row, and of no dtype that is known here: left out.
  EXPECT_THAT((*file)->names(), ElementsAre("state_dict_softmax_fc.weight", "state_dict_softmax_fc.half"));
  const auto weight = (*file)->Find("state_dict_softmax_fc.weight");
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->info->type, TensorType::kF32);
  EXPECT_THAT(weight->info->shape, ElementsAre(2, 3));
  EXPECT_THAT(Floats(*weight), ElementsAre(3, 4, 5, 6, 7, 8));
  const auto half = (*file)->Find("state_dict_softmax_fc.half");
  ASSERT_TRUE(half.ok());
  EXPECT_EQ(half->info->type, TensorType::kF16);
  EXPECT_EQ(std::string(half->bytes.begin(), half->bytes.end()), "abcd");
}

TEST(TorchFileTest, AFileMayBeOneTensor) {
  TempDir dir;
  WriteText(dir.File("x.pt"), TorchMatrixBytes({1, 2, 3, 4}, 2));
  const auto file = TorchFile::Open(dir.File("x.pt"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT((*file)->names(), ElementsAre(""));
  EXPECT_THAT(Floats(*(*file)->Find("")), ElementsAre(1, 2, 3, 4));
}

TEST(TorchFileTest, WhatCannotBeReadIsRefused) {
  const std::string tensor = Tensor("FloatStorage", "0", 4, 0, {2, 2}, {2, 1});
  const std::string numbers(16, 'n');
  std::string flipped = TorchBytes(tensor, {{"0", numbers}});
  flipped[flipped.find(numbers) + 5] = 'm';
  struct Case {
    std::string bytes;
    absl::StatusCode code;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"", absl::StatusCode::kInvalidArgument, "not a zip archive"},
      {"\x80\x02\x8a\x0al\xfc\x9c", absl::StatusCode::kInvalidArgument, "PyTorch 1.6 or later"},
      {ZipOf({{"a/data.pkl", PickleOf(tensor)}}, /*method=*/8), absl::StatusCode::kInvalidArgument, "a/data.pkl is compressed"},
      {ZipOf({{"a/readme", "text"}}), absl::StatusCode::kInvalidArgument, "no data.pkl"},
      {ZipOf({{"a/data.pkl", PickleOf(tensor)}, {"a/data/0", numbers}, {"a/byteorder", "big"}}), absl::StatusCode::kInvalidArgument,
       "little-endian"},
      {TorchBytes(tensor, {}), absl::StatusCode::kDataLoss, "storage 0 is missing"},
      {TorchBytes(tensor, {{"0", "short"}}), absl::StatusCode::kDataLoss, "4 numbers from 0 on; storage 0 has 1"},
      {TorchBytes(Tensor("FloatStorage", "0", 4, -1, {2}, {1}), {{"0", numbers}}), absl::StatusCode::kDataLoss, "from -1 on"},
      {flipped, absl::StatusCode::kDataLoss, "checksum"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    const absl::Status status = Open(bad.bytes);
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.pt"));
  }
}

TEST(TorchFileTest, CutAndBentFilesDoNoHarm) {
  const std::string good = TorchBytes(Dict({{"weight", Tensor("FloatStorage", "0", 4, 0, {2, 2}, {2, 1})}}), {{"0", std::string(16, 'n')}});
  ASSERT_TRUE(Open(good).ok()) << Open(good);
  for (size_t length = 0; length < good.size(); length += 7) EXPECT_FALSE(Open(good.substr(0, length)).ok()) << length;
  std::mt19937 rng(2);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string bent = good;
    bent[rng() % bent.size()] = static_cast<char>(rng());
    const absl::Status status = Open(bent);
    refused += status.ok() ? 0 : 1;
    const bool expected = status.ok() || absl::IsInvalidArgument(status) || absl::IsDataLoss(status) || absl::IsNotFound(status);
    EXPECT_TRUE(expected) << status;
  }
  EXPECT_GT(refused, 100) << "all that is read has a checksum";
}

// A dict may be put into another any number of times for two bytes, so a small file can have any number of tensors with names of any
// length.
TEST(TorchFileTest, AFileThatWouldFillTheMemoryIsRefused) {
  const std::string tensor = Tensor("FloatStorage", "0", 4, 0, {4}, {1}) + "q\x01";
  const auto nested = [](std::string value, int depth, int width, const std::string& key) {
    for (int d = 0; d < depth; ++d) {
      const std::string memo(1, static_cast<char>(10 + d));
      value = "}(" + Text(key + "0") + value + "q" + memo;
      for (int i = 1; i < width; ++i) value += Text(absl::StrCat(key, i)) + "h" + memo;
      value += "u";
    }
    return value;
  };
  const std::string storage(16, 'n');
  EXPECT_TRUE(Open(TorchBytes(nested(tensor, 2, 100, "k"), {{"0", storage}})).ok());
  struct Case {
    std::string value;
    std::string message;
  };
  for (const Case& bad : std::vector<Case>{{nested(tensor, 5, 30, "k"), "more than 16384 tensors"},
                                           {nested("K\x01q\x01", 5, 30, "k"), "dicts that hold each other"},
                                           {nested(tensor, 2, 2, std::string(300, 'k')), "a key of 301 bytes"}}) {
    const absl::Status status = Open(TorchBytes(bad.value, {{"0", storage}}));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

// Archives beyond 4 GiB keep sizes and places in 64-bit fields.
TEST(TorchFileTest, WideFieldsAreRead) {
  const std::string content = "hello";
  const uint32_t crc = crc32(0, reinterpret_cast<const Bytef*>(content.data()), content.size());
  const std::string name = "a/x";
  const std::string local = "PK\x03\x04" + Raw<uint16_t>(45) + Raw<uint16_t>(0) + Raw<uint16_t>(0) + Raw<uint32_t>(0) + Raw(crc) +
                            Raw<uint32_t>(0xffffffff) + Raw<uint32_t>(0xffffffff) + Raw<uint16_t>(name.size()) + Raw<uint16_t>(0) + name +
                            content;
  const std::string wide =
      Raw<uint16_t>(1) + Raw<uint16_t>(24) + Raw<uint64_t>(content.size()) + Raw<uint64_t>(content.size()) + Raw<uint64_t>(0);
  const std::string directory = "PK\x01\x02" + Raw<uint16_t>(45) + Raw<uint16_t>(45) + Raw<uint16_t>(0) + Raw<uint16_t>(0) +
                                Raw<uint32_t>(0) + Raw(crc) + Raw<uint32_t>(0xffffffff) + Raw<uint32_t>(0xffffffff) +
                                Raw<uint16_t>(name.size()) + Raw<uint16_t>(wide.size()) + Raw<uint16_t>(0) + Raw<uint16_t>(0) +
                                Raw<uint16_t>(0) + Raw<uint32_t>(0) + Raw<uint32_t>(0xffffffff) + name + wide;
  const uint64_t end64 = local.size() + directory.size();
  const std::string ends = "PK\x06\x06" + Raw<uint64_t>(44) + Raw<uint16_t>(45) + Raw<uint16_t>(45) + Raw<uint32_t>(0) + Raw<uint32_t>(0) +
                           Raw<uint64_t>(1) + Raw<uint64_t>(1) + Raw<uint64_t>(directory.size()) + Raw<uint64_t>(local.size()) +
                           "PK\x06\x07" + Raw<uint32_t>(0) + Raw(end64) + Raw<uint32_t>(1) + "PK\x05\x06" + Raw<uint16_t>(0) +
                           Raw<uint16_t>(0) + Raw<uint16_t>(0xffff) + Raw<uint16_t>(0xffff) + Raw<uint32_t>(0xffffffff) +
                           Raw<uint32_t>(0xffffffff) + Raw<uint16_t>(0);
  const std::string archive = local + directory + ends;
  const auto entries = ReadZipDirectory(archive);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->count(name), 1u);
  EXPECT_EQ(std::string(entries->at(name).bytes.begin(), entries->at(name).bytes.end()), content);
  EXPECT_TRUE(CheckZipEntry(entries->at(name)).ok());
}

}  // namespace
}  // namespace myriad
