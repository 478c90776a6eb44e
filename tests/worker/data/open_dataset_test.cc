#include "worker/data/open_dataset.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/data/test_images.h"
#include "worker/data/image_codec.h"

namespace myriad {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string OpenError(const std::string& path, const std::string& split = "train") {
  const auto dataset = OpenDataset(path, split, DatasetFormat::kAuto);
  EXPECT_FALSE(dataset.ok());
  return std::string(dataset.status().message());
}

std::string Numbers(const std::vector<int64_t>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t));
}

TEST(OpenDatasetTest, ARawDatasetGivesBackItsPixelsLabelsAndNames) {
  const TempDir dir;
  WriteRawDataset(dir.File("d"), 12, 5, 9, 3);
  const auto dataset = OpenDataset(dir.File("d"), "train", DatasetFormat::kAuto);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_EQ((*dataset)->size(), 12);
  EXPECT_EQ((*dataset)->image_size(), 9);
  EXPECT_EQ((*dataset)->channels(), 3);
  EXPECT_THAT((*dataset)->identities(), ElementsAre("person 0", "person 1", "person 2", "person 3", "person 4"));
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ((*dataset)->label(i), i % 5);
    EXPECT_EQ(ReadBytes(**dataset, i), NoiseImage(9, 9, 3, i).pixels);
  }
}

TEST(OpenDatasetTest, AnotherSizeAndChannelsAreDeliveredWhenAskedFor) {
  const TempDir dir;
  WriteRawDataset(dir.File("d"), 3, 3, 16, 1);
  OpenDatasetOptions options;
  options.image_size = 8;
  options.channels = 3;
  const auto dataset = OpenDataset(dir.File("d"), "train", DatasetFormat::kDatasetJson, options);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->image_bytes(), 8 * 8 * 3);
  EXPECT_EQ(ReadBytes(**dataset, 1), FitImage(NoiseImage(16, 16, 1, 1), 8, 3).pixels);
}

TEST(OpenDatasetTest, AFolderTreeIsSortedByNameAndMayBeNested) {
  const TempDir dir;
  WriteImageFile(dir.File("t/zoe/2.png"), SmoothImage(10, 10, 3, 1));
  WriteImageFile(dir.File("t/zoe/1.jpg"), SmoothImage(12, 12, 3, 2));
  WriteImageFile(dir.File("t/ann/x.JPEG"), SmoothImage(8, 8, 3, 3));
  WriteImageFile(dir.File("t/greek/alpha/x.png"), SmoothImage(8, 8, 1, 4));
  WriteText(dir.File("t/zoe/notes.txt"), "no image");
  WriteText(dir.File("t/.hidden.png"), "no image");
  const auto dataset = OpenDataset(dir.File("t"), "", DatasetFormat::kAuto);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_THAT((*dataset)->identities(), ElementsAre("ann", "greek/alpha", "zoe"));
  ASSERT_EQ((*dataset)->size(), 4);
  EXPECT_EQ((*dataset)->ImageName(2), dir.File("t/zoe/1.jpg"));
  EXPECT_EQ((*dataset)->label(3), 2);
  // The first image gives size and channels; the others are brought to it.
  EXPECT_EQ((*dataset)->image_size(), 8);
  EXPECT_EQ((*dataset)->channels(), 3);
  EXPECT_EQ(ReadBytes(**dataset, 3), FitImage(SmoothImage(10, 10, 3, 1), 8, 3).pixels);
  EXPECT_EQ(ReadBytes(**dataset, 1), FitImage(SmoothImage(8, 8, 1, 4), 8, 3).pixels);
}

TEST(OpenDatasetTest, AnUnreadableImageOfATreeIsNamed) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 2, 2, 8, 1);
  WriteText(dir.File("t/person_1/0.png"), "not an image");
  const auto dataset = OpenDataset(dir.File("t"), "train", DatasetFormat::kFolder);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  std::vector<uint8_t> bytes(64);
  const absl::Status status = (*dataset)->ReadImage(2, bytes.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(dir.File("t/person_1/0.png")));
}

TEST(OpenDatasetTest, FoldersThatAreNoTreeAreErrors) {
  const TempDir dir;
  EXPECT_THAT(OpenError(dir.File("missing")), HasSubstr("missing: the data folder does not exist"));
  std::filesystem::create_directory(dir.File("empty"));
  EXPECT_THAT(OpenError(dir.File("empty")), HasSubstr("no JPEG or PNG file"));
  WriteImageTree(dir.File("t"), 1, 1, 8, 1);
  EXPECT_THAT(OpenError(dir.File("t"), "eval"), HasSubstr("no split \"eval\""));
  WriteImageFile(dir.File("t/stray.png"), SmoothImage(8, 8, 1, 1));
  EXPECT_THAT(OpenError(dir.File("t")), HasSubstr("stray.png: the image lies in no identity's folder"));
}

// Every way in which the files of a split can disagree is named with the file and the value.
TEST(OpenDatasetTest, FaultsOfAPackedDatasetNameFileAndValue) {
  const TempDir dir;
  const std::string d = dir.File("d");
  const auto fresh = [&] {
    std::filesystem::remove_all(d);
    WriteRawDataset(d, 4, 3, 4, 1);
  };
  fresh();
  WriteText(d + "/train.labels", Numbers({0, 1, 3, 2}));
  EXPECT_THAT(OpenError(d), HasSubstr("train.labels: label 3 of image 2 is outside [0, 3)"));
  WriteText(d + "/train.labels", Numbers({0, 1, -1, 2}));
  EXPECT_THAT(OpenError(d), HasSubstr("train.labels: label -1 of image 2 is outside [0, 3)"));
  WriteText(d + "/train.labels", Numbers({0, 1, 2}));
  EXPECT_THAT(OpenError(d), HasSubstr("train.labels: the file has 24 bytes; 32 are needed"));
  fresh();
  WriteText(d + "/train.images", "short");
  EXPECT_THAT(OpenError(d), HasSubstr("train.images: the file has 5 bytes; 64 are needed for 4 raw images of 4 x 4 x 1"));
  fresh();
  WriteText(d + "/train.identities.tsv", "a\nb\na\n");
  EXPECT_THAT(OpenError(d), HasSubstr("train.identities.tsv: lines 1 and 3 have the same name \"a\""));
  WriteText(d + "/train.identities.tsv", "a\n\nb\n");
  EXPECT_THAT(OpenError(d), HasSubstr("train.identities.tsv: line 2 has no name"));
  std::filesystem::remove(d + "/train.identities.tsv");
  EXPECT_THAT(OpenError(d), HasSubstr("train.identities.tsv: No such file"));
  fresh();
  EXPECT_THAT(OpenError(d, "test"), HasSubstr("no split \"test\"; there are: train"));
  EXPECT_THAT(std::string(OpenPairs(d, "train").status().message()), HasSubstr("split \"train\" has no pairs"));
}

TEST(OpenDatasetTest, FaultsOfDatasetJsonNameTheField) {
  struct Case {
    const char* json;
    const char* message;
  };
  const std::string good_split = R"({"train":{"count":1,"images":"i","labels":"l","identities":"n"}})";
  const std::string head = R"({"version":1,"image_size":4,"channels":1,"encoding":"raw","splits":)";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "not valid JSON"},
      {"[1]", "not a JSON object"},
      {"{}", "version is missing"},
      {R"({"version":2})", "version is 2; this program reads version 1"},
      {R"({"version":"1"})", "version is \"1\"; an integer"},
      {R"({"version":1,"image_size":0})", "image_size is 0; an integer in [1, 16384]"},
      {R"({"version":1,"image_size":18446744073709551615})", "image_size is 18446744073709551615"},
      {R"({"version":1,"image_size":4,"channels":2})", "channels is 2; 1 or 3"},
      {R"({"version":1,"image_size":4,"channels":1,"encoding":"gif"})", "encoding is \"gif\"; raw, jpeg or png"},
      {head + "{}}", "splits is missing or no object with at least one split"},
      {head + R"({"train":{"count":0}}})", "splits.train.count is 0"},
      {head + R"({"train":{"count":1,"images":"../x"}}})", "splits.train.images is \"../x\"; a file name without a folder"},
      {head + R"({"train":{"count":1,"images":"i","labels":7}}})", "splits.train.labels is 7; a string"},
      {R"({"version":1,"image_size":4,"channels":1,"encoding":"png","splits":)" + good_split + "}", "splits.train.offsets is missing"},
  };
  for (const auto& [json, message] : cases) {
    const TempDir dir;
    WriteText(dir.File("dataset.json"), json);
    EXPECT_THAT(OpenError(dir.path()), AllOf(HasSubstr("dataset.json: "), HasSubstr(message)));
  }
}

TEST(OpenDatasetTest, OffsetsThatDoNotRiseAreNamed) {
  const TempDir dir;
  WriteText(dir.File("dataset.json"),
            R"({"version":1,"image_size":4,"channels":1,"encoding":"png","splits":{"train":
               {"count":3,"images":"i","labels":"l","identities":"n","offsets":"o"}}})");
  const std::string image = EncodePng(NoiseImage(4, 4, 1, 1));
  const int64_t size = image.size();
  WriteText(dir.File("i"), image + image + image);
  WriteText(dir.File("l"), Numbers({0, 0, 0}));
  WriteText(dir.File("n"), "a\n");
  WriteText(dir.File("o"), Numbers({0, size, 2 * size, 3 * size}));
  const auto dataset = OpenDataset(dir.path(), "train", DatasetFormat::kAuto);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(ReadBytes(**dataset, 2), NoiseImage(4, 4, 1, 1).pixels);
  WriteText(dir.File("o"), Numbers({0, 2 * size, size, 3 * size}));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr(absl::StrCat("offset ", size, " of image 2 does not lie after offset ", 2 * size)));
  WriteText(dir.File("o"), Numbers({1, size, 2 * size, 3 * size}));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr("the first offset is 1; 0 is needed"));
  WriteText(dir.File("o"), Numbers({0, size, 2 * size, 3 * size + 1}));
  EXPECT_THAT(OpenError(dir.path()), HasSubstr(absl::StrCat("the file has ", 3 * size, " bytes; ", 3 * size + 1, " are needed")));
}

TEST(OpenDatasetTest, AFileCutShortAfterOpeningIsAnError) {
  const TempDir dir;
  WriteRawDataset(dir.File("d"), 4, 2, 8, 1);
  const auto dataset = OpenDataset(dir.File("d"), "train", DatasetFormat::kAuto);
  ASSERT_TRUE(dataset.ok());
  std::filesystem::resize_file(dir.File("d/train.images"), 100);
  std::vector<uint8_t> bytes(64);
  EXPECT_TRUE((*dataset)->ReadImage(0, bytes.data()).ok());
  const absl::Status status = (*dataset)->ReadImage(1, bytes.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("train.images"));
}

}  // namespace
}  // namespace myriad
