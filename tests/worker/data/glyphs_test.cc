#include "worker/data/glyphs.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "worker/data/check.h"
#include "worker/data/font_face.h"
#include "worker/data/han_fonts.h"
#include "worker/data/open_dataset.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

GlyphsOptions SmallSet(const std::string& out) {
  GlyphsOptions options;
  options.classes = 30;
  options.eval_classes = 12;
  options.per_class = 9;
  options.size = 32;
  options.pairs = 60;
  options.out = out;
  return options;
}

std::vector<std::string> FilesOf(const std::string& dir) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) files.push_back(entry.path().filename().string());
  std::sort(files.begin(), files.end());
  return files;
}

TEST(GlyphsTest, TheSameArgumentsGiveTheSameBytesOnAnyNumberOfThreads) {
  const TempDir dir;
  for (const int threads : {1, 2, 5}) {
    GlyphsOptions options = SmallSet(dir.File(std::to_string(threads)));
    options.threads = threads;
    const absl::Status status = RunGlyphs(options);
    ASSERT_TRUE(status.ok()) << status;
  }
  const std::vector<std::string> files = FilesOf(dir.File("1"));
  EXPECT_EQ(files.size(), 9u);
  for (const std::string other : {"2", "5"}) {
    EXPECT_EQ(FilesOf(dir.File(other)), files);
    for (const std::string& file : files) EXPECT_TRUE(ReadText(dir.File("1/" + file)) == ReadText(dir.File(other + "/" + file))) << file;
  }
  GlyphsOptions options = SmallSet(dir.File("seed"));
  options.seed = 2;
  ASSERT_TRUE(RunGlyphs(options).ok());
  EXPECT_FALSE(ReadText(dir.File("1/train.images")) == ReadText(dir.File("seed/train.images")));
}

TEST(GlyphsTest, ClassesPairsAndHeldOutCharactersAreAsAsked) {
  const TempDir dir;
  ASSERT_TRUE(RunGlyphs(SmallSet(dir.File("d"))).ok());
  const auto train = OpenDataset(dir.File("d"), "train", DatasetFormat::kDatasetJson);
  const auto eval = OpenDataset(dir.File("d"), "eval", DatasetFormat::kDatasetJson);
  ASSERT_TRUE(train.ok()) << train.status();
  ASSERT_TRUE(eval.ok()) << eval.status();
  EXPECT_EQ((*train)->size(), 270);
  EXPECT_EQ((*eval)->size(), 108);
  EXPECT_EQ((*train)->channels(), 1);
  EXPECT_EQ((*train)->image_size(), 32);
  for (int i = 0; i < 270; ++i) ASSERT_EQ((*train)->label(i), i / 9);
  std::set<std::string> names((*train)->identities().begin(), (*train)->identities().end());
  EXPECT_EQ(names.size(), 30u);
  names.insert((*eval)->identities().begin(), (*eval)->identities().end());
  EXPECT_EQ(names.size(), 42u);
  for (const std::string& name : names) EXPECT_THAT(name, HasSubstr("U+"));
  const auto pairs = OpenPairs(dir.File("d"), "eval");
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  ASSERT_EQ(pairs->size(), 60u);
  for (int fold = 0; fold < 10; ++fold) {
    int same = 0;
    for (int i = 6 * fold; i < 6 * fold + 6; ++i) {
      ASSERT_EQ((*eval)->label((*pairs)[i].first) == (*eval)->label((*pairs)[i].second), (*pairs)[i].same);
      same += (*pairs)[i].same;
    }
    EXPECT_EQ(same, 3);
  }
  CheckOptions check;
  check.path = dir.File("d");
  EXPECT_TRUE(RunCheck(check).ok());
  const std::string about = ReadText(dir.File("d/glyphs.json"));
  EXPECT_THAT(about, HasSubstr("\"HanaMinA.ttf\""));
  EXPECT_THAT(about, HasSubstr("FreeType"));
}

// Images have dark ink on light paper in their middle, and the samples of a class look more alike than those of different classes.
TEST(GlyphsTest, SamplesOfAClassLookAlike) {
  const TempDir dir;
  ASSERT_TRUE(RunGlyphs(SmallSet(dir.File("d"))).ok());
  const auto train = OpenDataset(dir.File("d"), "train", DatasetFormat::kDatasetJson);
  ASSERT_TRUE(train.ok());
  std::vector<std::vector<float>> images;
  for (int i = 0; i < 270; ++i) {
    std::vector<uint8_t> bytes(32 * 32);
    ASSERT_TRUE((*train)->ReadImage(i, bytes.data()).ok());
    double edge = 0, mean = 0;
    for (int x = 0; x < 32; ++x) edge += (bytes[x] + bytes[31 * 32 + x]) / 64.0;
    for (const uint8_t value : bytes) mean += value / 1024.0;
    const uint8_t darkest = *std::min_element(bytes.begin(), bytes.end());
    ASSERT_GT(edge, 150) << i;
    ASSERT_LT(darkest, edge - 50) << i;
    ASSERT_LT(mean, edge - 5) << i;
    double norm = 0;
    for (const uint8_t value : bytes) norm += (value - mean) * (value - mean);
    std::vector<float> centered;
    for (const uint8_t value : bytes) centered.push_back(static_cast<float>((value - mean) / std::sqrt(norm)));
    images.push_back(centered);
  }
  double same = 0, different = 0;
  int same_count = 0, different_count = 0;
  for (int i = 0; i < 270; ++i) {
    for (int j = 0; j < i; ++j) {
      double cosine = 0;
      for (int p = 0; p < 1024; ++p) cosine += images[i][p] * images[j][p];
      ASSERT_LT(cosine, 0.999) << i << " and " << j << " are the same picture";
      (i / 9 == j / 9 ? same : different) += cosine;
      ++(i / 9 == j / 9 ? same_count : different_count);
    }
  }
  EXPECT_GT(same / same_count, different / different_count + 0.05);
}

TEST(GlyphsTest, CompatibilityIdeographsAreNoClasses) {
  EXPECT_TRUE(IsUnifiedIdeograph(0x4E00));
  EXPECT_TRUE(IsUnifiedIdeograph(0x3400));
  EXPECT_TRUE(IsUnifiedIdeograph(0x20000));
  EXPECT_TRUE(IsUnifiedIdeograph(0x323AF));
  EXPECT_FALSE(IsUnifiedIdeograph(0xF900));
  EXPECT_FALSE(IsUnifiedIdeograph(0x2F800));
  EXPECT_FALSE(IsUnifiedIdeograph('A'));
}

TEST(GlyphsTest, TheQuickstartsCharactersHaveFiveDesigns) {
  GlyphsOptions options;
  const auto fonts = FindHanFonts({});
  ASSERT_TRUE(fonts.ok()) << fonts.status();
  int64_t five = 0;
  for (const auto& [character, faces] : fonts->faces_of) five += fonts->DesignCount(faces) >= 5;
  EXPECT_GE(five, 2400);
  std::ostringstream list;
  ASSERT_TRUE(ListGlyphFonts({}, list).ok());
  EXPECT_THAT(list.str(), HasSubstr("hanamin"));
  EXPECT_THAT(list.str(), HasSubstr("in  5 or more designs"));
}

TEST(GlyphsTest, MissingFontsNameThePackages) {
  const TempDir dir;
  GlyphsOptions options = SmallSet(dir.File("d"));
  options.font_dirs = {dir.path()};
  const absl::Status status = RunGlyphs(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("apt-get install fonts-hanazono fonts-babelstone-han fonts-"));
  EXPECT_EQ(dir.CountEntries(), 0);
  WriteText(dir.File("uming.ttc"), "no font");
  EXPECT_THAT(std::string(RunGlyphs(options).message()), HasSubstr("uming.ttc: face 0 cannot be read as a font"));
}

TEST(GlyphsTest, OptionsOutOfRangeAreNamedAndNothingIsLeft) {
  const TempDir dir;
  struct Case {
    void (*change)(GlyphsOptions*);
    const char* message;
  };
  const Case cases[] = {
      {[](GlyphsOptions* o) { o->classes = 0; }, "classes is 0"},
      {[](GlyphsOptions* o) { o->eval_classes = 1; }, "eval-classes is 1"},
      {[](GlyphsOptions* o) { o->per_class = 1; }, "per-class is 1; a number in [2, 10000]"},
      {[](GlyphsOptions* o) { o->size = 4; }, "size is 4"},
      {[](GlyphsOptions* o) { o->pairs = 30; }, "pairs is 30"},
      {[](GlyphsOptions* o) { o->classes = 1000000; }, "classes + eval-classes is 1000012, but only "},
      {[](GlyphsOptions* o) { o->min_designs = 40; }, "only 0 characters stand in 40 or more designs"},
  };
  for (const Case& c : cases) {
    GlyphsOptions options = SmallSet(dir.File("d"));
    c.change(&options);
    EXPECT_THAT(std::string(RunGlyphs(options).message()), HasSubstr(c.message));
  }
  EXPECT_EQ(dir.CountEntries(), 0);
}

TEST(FontFaceTest, ABolderCharacterCoversMoreAndMovesNowhere) {
  const auto fonts = FindHanFonts({});
  ASSERT_TRUE(fonts.ok()) << fonts.status();
  constexpr int kSize = 64;
  const uint32_t character = 0x6C34;  // Water.
  ASSERT_GE(fonts->faces_of.at(character).size(), 7u);
  for (const int number : fonts->faces_of.at(character)) {
    SCOPED_TRACE(fonts->faces[number].path);
    const auto face = FontFace::Open(fonts->faces[number].path, fonts->faces[number].index);
    ASSERT_TRUE(face.ok()) << face.status();
    double ink[3];
    for (int i = 0; i < 3; ++i) {
      GlyphPlacement placement;
      placement.em_pixels = 50;
      placement.bolder = 0.01 * (i - 1);
      std::vector<uint8_t> out(kSize * kSize, 9);
      ASSERT_TRUE((*face)->Draw(character, placement, kSize, out.data()));
      int left = kSize, right = 0, top = kSize, bottom = 0;
      ink[i] = 0;
      for (int p = 0; p < kSize * kSize; ++p) {
        ink[i] += out[p];
        if (out[p] == 0) continue;
        left = std::min(left, p % kSize);
        right = std::max(right, p % kSize);
        top = std::min(top, p / kSize);
        bottom = std::max(bottom, p / kSize);
      }
      EXPECT_NEAR(left + right, kSize - 1, 1);
      EXPECT_NEAR(top + bottom, kSize - 1, 1);
    }
    EXPECT_LT(ink[0], ink[1]);
    EXPECT_LT(ink[1], ink[2]);
  }
}

}  // namespace
}  // namespace myriad
