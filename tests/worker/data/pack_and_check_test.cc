#include <atomic>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/data/test_images.h"
#include "worker/data/check.h"
#include "worker/data/image_codec.h"
#include "worker/data/open_dataset.h"
#include "worker/data/pack.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

PackOptions Pack(const std::string& source, const std::string& out) {
  PackOptions options;
  options.source = source;
  options.out = out;
  options.pairs = 0;
  return options;
}

std::unique_ptr<Dataset> Open(const std::string& path, const std::string& split = "train") {
  auto dataset = OpenDataset(path, split, DatasetFormat::kDatasetJson);
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return dataset.ok() ? *std::move(dataset) : nullptr;
}

// The status and what was printed.
std::pair<absl::Status, std::string> Check(const std::string& path, int threads = 2) {
  std::ostringstream out;
  CheckOptions options;
  options.path = path;
  options.threads = threads;
  options.results = &out;
  absl::Status status = RunCheck(options);
  return {status, out.str()};
}

TEST(PackTest, APackedTreeHasThePixelsOfItsFiles) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 5, 3, 20, 3);
  for (const ImageEncoding encoding : {ImageEncoding::kRaw, ImageEncoding::kPng}) {
    for (const int threads : {1, 3}) {
      const std::string out = dir.File(absl::StrCat("out", static_cast<int>(encoding), threads));
      PackOptions options = Pack(dir.File("t"), out);
      options.encoding = encoding;
      options.threads = threads;
      const absl::Status status = RunPack(options);
      ASSERT_TRUE(status.ok()) << status;
      const auto dataset = Open(out);
      ASSERT_EQ(dataset->size(), 15);
      EXPECT_THAT(dataset->identities(), ElementsAre("person_0", "person_1", "person_2", "person_3", "person_4"));
      for (int i = 0; i < 15; ++i) {
        EXPECT_EQ(dataset->label(i), i / 3);
        EXPECT_EQ(ReadBytes(*dataset, i), SmoothImage(20, 20, 3, i / 3 * 100 + i % 3).pixels);
      }
      EXPECT_TRUE(Check(out).first.ok());
    }
  }
}

TEST(PackTest, JpegFilesOfTheRightSizeAreKeptByteForByte) {
  const TempDir dir;
  const Image image = SmoothImage(24, 24, 3, 1);
  WriteImageFile(dir.File("t/a/1.jpg"), image);
  PackOptions options = Pack(dir.File("t"), dir.File("out"));
  options.encoding = ImageEncoding::kJpeg;
  ASSERT_TRUE(RunPack(options).ok());
  EXPECT_EQ(ReadText(dir.File("out/train.images")), ReadText(dir.File("t/a/1.jpg")));
  options.out = dir.File("small");
  options.image_size = 12;
  options.channels = 1;
  ASSERT_TRUE(RunPack(options).ok());
  const auto small = Open(dir.File("small"));
  EXPECT_EQ(small->image_bytes(), 144);
  const std::vector<uint8_t> got = ReadBytes(*small, 0);
  const std::vector<uint8_t> want = FitImage(image, 12, 1).pixels;
  for (int i = 0; i < 144; ++i) ASSERT_NEAR(got[i], want[i], 12);
}

TEST(PackTest, AListGivesIdentitiesInItsOrder) {
  const TempDir dir;
  WriteImageFile(dir.File("files/one.png"), NoiseImage(6, 6, 1, 1));
  WriteImageFile(dir.File("two.png"), NoiseImage(6, 6, 1, 2));
  WriteText(dir.File("list.tsv"), absl::StrCat("files/one.png\tzoe b\n\n", dir.File("two.png"), "\tann\r\nfiles/one.png\tann\n"));
  const absl::Status status = RunPack(Pack(dir.File("list.tsv"), dir.File("out")));
  ASSERT_TRUE(status.ok()) << status;
  const auto dataset = Open(dir.File("out"));
  EXPECT_THAT(dataset->identities(), ElementsAre("zoe b", "ann"));
  EXPECT_EQ(dataset->label(0), 0);
  EXPECT_EQ(dataset->label(2), 1);
  EXPECT_EQ(ReadBytes(*dataset, 1), NoiseImage(6, 6, 1, 2).pixels);
  EXPECT_EQ(ReadBytes(*dataset, 2), NoiseImage(6, 6, 1, 1).pixels);
  WriteText(dir.File("bad.tsv"), "two.png\tann\ntwo.png ann\n");
  EXPECT_THAT(std::string(RunPack(Pack(dir.File("bad.tsv"), dir.File("out2"))).message()),
              HasSubstr("bad.tsv: line 2 is \"two.png ann\"; path<TAB>identity name is needed"));
}

TEST(PackTest, HeldOutIdentitiesAreOtherOnesWithPairs) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 12, 4, 8, 1);
  PackOptions options = Pack(dir.File("t"), dir.File("out"));
  options.holdout_classes = 5;
  options.pairs = 40;
  options.seed = 3;
  const absl::Status status = RunPack(options);
  ASSERT_TRUE(status.ok()) << status;
  const auto train = Open(dir.File("out"));
  const auto eval = Open(dir.File("out"), "eval");
  EXPECT_EQ(train->size(), 28);
  EXPECT_EQ(eval->size(), 20);
  std::set<std::string> names(train->identities().begin(), train->identities().end());
  names.insert(eval->identities().begin(), eval->identities().end());
  EXPECT_EQ(names.size(), 12u);
  for (int i = 0; i < 20; ++i) {
    const int identity = std::stoi(eval->identities()[eval->label(i)].substr(7));
    EXPECT_EQ(ReadBytes(*eval, i), SmoothImage(8, 8, 1, identity * 100 + i % 4).pixels);
  }
  const auto pairs = OpenPairs(dir.File("out"), "eval");
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  EXPECT_EQ(pairs->size(), 40u);
  for (const VerificationPair& pair : *pairs) EXPECT_EQ(eval->label(pair.first) == eval->label(pair.second), pair.same);
  const auto [checked, printed] = Check(dir.File("out"));
  EXPECT_TRUE(checked.ok()) << checked;
  EXPECT_THAT(printed,
              HasSubstr("eval: 20 images, 5 identities, images per identity min 4 median 4 max 4; 8 x 8 x 1 raw, 40 pairs (20 same)"));
}

TEST(PackTest, AnUnreadableFileLeavesNothingUnlessItMayBeSkipped) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 3, 2, 8, 1);
  WriteText(dir.File("t/person_1/1.png"), ReadText(dir.File("t/person_1/1.png")).substr(0, 60));
  std::filesystem::create_directory(dir.File("o"));
  PackOptions options = Pack(dir.File("t"), dir.File("o/out"));
  std::ostringstream results;
  options.results = &results;
  const absl::Status status = RunPack(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("person_1/1.png: broken PNG file"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.File("o")));
  options.skip_unreadable = true;
  ASSERT_TRUE(RunPack(options).ok());
  EXPECT_EQ(Open(dir.File("o/out"))->size(), 5);
  EXPECT_THAT(results.str(), HasSubstr("left out: " + dir.File("t/person_1/1.png")));
  EXPECT_THAT(results.str(), HasSubstr("1 images left out"));
}

TEST(PackTest, NothingIsOverwrittenAndAnInterruptLeavesNothing) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 2, 2, 8, 1);
  WriteText(dir.File("taken/file"), "");
  std::filesystem::create_directories(dir.File("taken"));
  WriteText(dir.File("taken/file"), "mine");
  EXPECT_EQ(RunPack(Pack(dir.File("t"), dir.File("taken"))).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadText(dir.File("taken/file")), "mine");
  const std::atomic<bool> stop{true};
  std::filesystem::create_directory(dir.File("o"));
  PackOptions options = Pack(dir.File("t"), dir.File("o/out"));
  options.stop = &stop;
  EXPECT_EQ(RunPack(options).code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(dir.File("o")));
  // An empty folder may be there, and the folders above are made.
  std::filesystem::create_directory(dir.File("o/out"));
  EXPECT_TRUE(RunPack(Pack(dir.File("t"), dir.File("o/out") + "/")).ok());
  EXPECT_TRUE(RunPack(Pack(dir.File("t"), dir.File("new/deep/out"))).ok());
}

// No image can be decoded here: more pairs than there are files is told before any is tried.
TEST(PackTest, TooFewImagesForThePairsIsToldBeforeAnyImageIsDecoded) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 6, 2, 8, 1);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.File("t"))) {
    if (entry.is_regular_file()) WriteText(entry.path().string(), "no image");
  }
  PackOptions options = Pack(dir.File("t"), dir.File("out"));
  options.image_size = 8;
  options.channels = 1;
  options.holdout_classes = 3;
  options.pairs = 40;
  EXPECT_THAT(std::string(RunPack(options).message()), HasSubstr("pairs is 40, but the images give hardly more than"));
  EXPECT_FALSE(std::filesystem::exists(dir.File("out")));
  options.pairs = 0;
  EXPECT_THAT(std::string(RunPack(options).message()), HasSubstr("neither a JPEG nor a PNG"));
}

TEST(PackTest, OptionsOutOfRangeAreNamed) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 2, 2, 8, 1);
  PackOptions options = Pack(dir.File("t"), dir.File("out"));
  options.holdout_classes = 2;
  EXPECT_THAT(std::string(RunPack(options).message()), HasSubstr("holdout-classes is 2, but there are 2 identities"));
  options = Pack(dir.File("t"), dir.File("out"));
  options.pairs = 50;
  EXPECT_THAT(std::string(RunPack(options).message()), HasSubstr("pairs is 50; a multiple of 20"));
  options = Pack(dir.File("t"), dir.File("out"));
  options.channels = 4;
  EXPECT_THAT(std::string(RunPack(options).message()), HasSubstr("channels is 4"));
  EXPECT_THAT(std::string(RunPack(Pack(dir.File("none"), dir.File("out"))).message()), HasSubstr("none: does not exist"));
  EXPECT_FALSE(std::filesystem::exists(dir.File("out")));
}

TEST(CheckTest, EveryFaultOfAPackedDatasetIsNamed) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 4, 3, 8, 1);
  PackOptions options = Pack(dir.File("t"), dir.File("d"));
  options.encoding = ImageEncoding::kPng;
  ASSERT_TRUE(RunPack(options).ok());
  ASSERT_TRUE(Check(dir.File("d")).first.ok());
  // Two images damaged, two labels wrong.
  std::string images = ReadText(dir.File("d/train.images"));
  const std::string offsets = ReadText(dir.File("d/train.offsets"));
  const auto* starts = reinterpret_cast<const int64_t*>(offsets.data());
  images[starts[2]] = 'x';
  images[starts[7]] = 'x';
  WriteText(dir.File("d/train.images"), images);
  std::string labels = ReadText(dir.File("d/train.labels"));
  reinterpret_cast<int64_t*>(labels.data())[0] = 4;
  reinterpret_cast<int64_t*>(labels.data())[5] = -9;
  WriteText(dir.File("d/train.labels"), labels);
  for (const int threads : {1, 4}) {
    const auto [status, printed] = Check(dir.File("d"), threads);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("4 problems"));
    EXPECT_THAT(printed, HasSubstr("train.labels: label 4 of image 0 is outside [0, 4)"));
    EXPECT_THAT(printed, HasSubstr("label -9 of image 5"));
    EXPECT_THAT(printed, HasSubstr("train.images: image 2: neither a JPEG nor a PNG file"));
    EXPECT_THAT(printed, HasSubstr("train.images: image 7: "));
    EXPECT_THAT(printed, Not(HasSubstr("image 3:")));
  }
}

TEST(CheckTest, PairsThatContradictTheLabelsAreNamed) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 6, 4, 8, 1);
  PackOptions options = Pack(dir.File("t"), dir.File("d"));
  options.holdout_classes = 4;
  options.pairs = 20;
  ASSERT_TRUE(RunPack(options).ok());
  std::string pairs = ReadText(dir.File("d/eval.pairs.tsv"));
  const size_t flag = pairs.find('\n') - 1;
  pairs[flag] = pairs[flag] == '1' ? '0' : '1';
  WriteText(dir.File("d/eval.pairs.tsv"), pairs);
  const auto [status, printed] = Check(dir.File("d"));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(printed, HasSubstr("eval.pairs.tsv: pair 0 ("));
}

TEST(CheckTest, ATreeIsReadToo) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 3, 2, 8, 1);
  WriteImageFile(dir.File("t/person_0/2.png"), SmoothImage(8, 8, 1, 3));
  EXPECT_THAT(Check(dir.File("t")).second, HasSubstr("train: 7 images, 3 identities, images per identity min 2 median 2 max 3"));
  WriteText(dir.File("t/person_2/0.png"), "");
  std::filesystem::create_directory(dir.File("t/nobody"));
  const auto [status, printed] = Check(dir.File("t"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 problems"));
  EXPECT_THAT(printed, HasSubstr("person_2/0.png: the file is empty"));
  EXPECT_THAT(printed, HasSubstr("nobody: the folder has no image"));
  EXPECT_EQ(Check(dir.File("none")).first.code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace myriad
