#include "worker/data/pairs.h"

#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

std::vector<int64_t> Labels(int classes, int images) {
  std::vector<int64_t> labels;
  for (int c = 0; c < classes; ++c) labels.insert(labels.end(), images, c);
  return labels;
}

TEST(PairsTest, DrawnPairsAreTrueBalancedInEveryFoldAndDistinct) {
  const std::vector<int64_t> labels = Labels(40, 5);
  const auto pairs = DrawPairs(labels, 400, 7);
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  ASSERT_EQ(pairs->size(), 400u);
  std::set<std::pair<int64_t, int64_t>> distinct;
  for (int fold = 0; fold < kVerificationFolds; ++fold) {
    int same = 0;
    for (int i = fold * 40; i < (fold + 1) * 40; ++i) {
      const VerificationPair& pair = (*pairs)[i];
      ASSERT_EQ(labels[pair.first] == labels[pair.second], pair.same);
      ASSERT_NE(pair.first, pair.second);
      same += pair.same;
      distinct.insert(std::minmax(pair.first, pair.second));
    }
    EXPECT_EQ(same, 20) << "fold " << fold;
  }
  EXPECT_EQ(distinct.size(), 400u);
  EXPECT_EQ(*DrawPairs(labels, 400, 7), *pairs);
  EXPECT_NE(*DrawPairs(labels, 400, 8), *pairs);
}

TEST(PairsTest, MorePairsThanThereAreIsAnError) {
  // Two identities with two images: two same pairs.
  EXPECT_THAT(std::string(DrawPairs(Labels(2, 2), 20, 1).status().message()), HasSubstr("pairs is 20"));
  EXPECT_THAT(std::string(DrawPairs(Labels(1, 9), 20, 1).status().message()), HasSubstr("1 identities"));
  EXPECT_THAT(std::string(DrawPairs(Labels(9, 1), 20, 1).status().message()), HasSubstr("0 of them with two images"));
  EXPECT_THAT(std::string(DrawPairs(Labels(9, 9), 30, 1).status().message()), HasSubstr("pairs is 30; a positive multiple of 20"));
}

TEST(PairsTest, TextAndBack) {
  const TempDir dir;
  const auto pairs = DrawPairs(Labels(10, 4), 40, 3);
  ASSERT_TRUE(pairs.ok());
  WriteText(dir.File("pairs.tsv"), FormatPairs(*pairs));
  const auto read = ReadPairs(dir.File("pairs.tsv"), 40);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, *pairs);
}

TEST(PairsTest, FaultsNameFileLineAndValue) {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {{"0\t1\t1\n0\t40\t0\n", "pairs.tsv: line 2: image 40 is outside [0, 40)"},
                        {"0\t-1\t1\n", "line 1: image -1"},
                        {"0\t1\n", "line 1 is \"0\t1\""},
                        {"0\t1\t2\n", "line 1 is \"0\t1\t2\""},
                        {"0 1 1\n", "line 1 is \"0 1 1\""},
                        {"0\t1\t1\n", "1 pairs; a positive multiple of 10"},
                        {"", "0 pairs"}};
  for (const Case& c : cases) {
    const TempDir dir;
    WriteText(dir.File("pairs.tsv"), c.text);
    const auto read = ReadPairs(dir.File("pairs.tsv"), 40);
    ASSERT_FALSE(read.ok()) << c.text;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace myriad
