#include "head/virtual_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"

namespace myriad {
namespace {

HeadSpec Spec(int dim, uint64_t seed = 7, double deviation = 0.01) {
  HeadSpec head;
  head.name = "faces";
  head.class_count = int64_t{1} << 40;
  head.embedding_dim = dim;
  head.seed = seed;
  head.initial_deviation = deviation;
  return head;
}

std::vector<float> Row(const HeadSpec& head, int64_t class_id) {
  std::vector<float> row(head.embedding_dim);
  FillVirtualRow(head, class_id, row.data());
  return row;
}

TEST(VirtualRowsTest, ElementsAreUniformWithTheStatedDeviation) {
  for (double deviation : {0.01, 1.0}) {
    const HeadSpec head = Spec(512, 3, deviation);
    const double limit = deviation * std::sqrt(3.0);
    double sum = 0.0, squares = 0.0, fourths = 0.0;
    std::vector<double> bins(64, 0.0);
    constexpr int kRows = 4000;
    for (int64_t c = 0; c < kRows; ++c) {
      for (float value : Row(head, c)) {
        ASSERT_LE(std::abs(value), limit * (1 + 1e-6));
        const double x = value / deviation;
        sum += x;
        squares += x * x;
        fourths += x * x * x * x;
        const int bin = static_cast<int>((value / limit + 1) / 2 * 64);
        ++bins[bin < 0 ? 0 : bin > 63 ? 63 : bin];
      }
    }
    const double n = kRows * 512.0;
    EXPECT_NEAR(sum / n, 0.0, 5 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 1.0, 5 * std::sqrt(0.8 / n));
    EXPECT_NEAR(fourths / n, 1.8, 0.01);
    double chi = 0.0;
    for (double bin : bins) chi += std::pow(bin - n / 64, 2) / (n / 64);
    EXPECT_LT(chi, 63 + 5 * std::sqrt(2 * 63.0));
  }
}

// Neighbours in class, element and seed are uncorrelated: rows of a fresh head point in independent directions.
TEST(VirtualRowsTest, NeighboursAreUncorrelated) {
  const HeadSpec head = Spec(512), other_seed = Spec(512, 8);
  double by_class = 0.0, by_element = 0.0, by_seed = 0.0, by_block = 0.0;
  constexpr int kRows = 2000;
  const double variance = 1e-4;
  for (int64_t c = 0; c < kRows; ++c) {
    const std::vector<float> a = Row(head, c), b = Row(head, c + 1), s = Row(other_seed, c), far = Row(head, c + (int64_t{1} << 32));
    for (int d = 0; d < 512; ++d) {
      by_class += a[d] * b[d];
      by_seed += a[d] * s[d];
      by_block += a[d] * far[d];
      if (d > 0) by_element += a[d] * a[d - 1];
    }
  }
  const double n = kRows * 512.0;
  for (double sum : {by_class, by_element, by_seed, by_block}) EXPECT_NEAR(sum / n / variance, 0.0, 5 / std::sqrt(n));
}

TEST(VirtualRowsTest, CosinesOfRowsHaveTheDeviationOfRandomDirections) {
  const HeadSpec head = Spec(512);
  double squares = 0.0;
  int pairs = 0;
  std::vector<std::vector<float>> rows;
  for (int64_t c = 0; c < 200; ++c) rows.push_back(Row(head, c * 4096));
  for (size_t a = 0; a < rows.size(); ++a) {
    for (size_t b = 0; b < a; ++b, ++pairs) {
      double dot = 0.0, aa = 0.0, bb = 0.0;
      for (int d = 0; d < 512; ++d) {
        dot += rows[a][d] * rows[b][d];
        aa += rows[a][d] * rows[a][d];
        bb += rows[b][d] * rows[b][d];
      }
      squares += dot * dot / (aa * bb);
    }
  }
  EXPECT_NEAR(squares / pairs * 512, 1.0, 5 * std::sqrt(2.0 / pairs));
}

TEST(VirtualRowsTest, RowsDependOnNothingElse) {
  const HeadSpec head = Spec(64);
  const std::vector<float> forward = Row(head, 5);
  Row(head, 1);
  EXPECT_EQ(Row(head, 5), forward);
  HeadSpec grown = head;
  grown.class_count = 3;
  grown.name = "other";
  EXPECT_EQ(Row(grown, 5), forward);
  // A narrower head has the same first elements: an element is a function of (seed, class, element).
  std::vector<float> narrow = Row(Spec(7), 5);
  EXPECT_TRUE(std::equal(narrow.begin(), narrow.end(), forward.begin()));
}

TEST(VirtualRowsTest, NoTwoRowsShareElements) {
  const HeadSpec head = Spec(64);
  std::set<float> values;
  for (int64_t c = 0; c < 2000; ++c) {
    for (float value : Row(head, c)) values.insert(value);
  }
  EXPECT_GT(values.size(), 126'000u);  // Of 128,000; floats near the limit collide by their rounding.
}

// Stored nowhere, these numbers are what every run started from: they may never change, on any machine.
TEST(VirtualRowsTest, ValuesAreFrozen) {
  std::string text;
  for (int64_t class_id : {int64_t{0}, int64_t{1}, (int64_t{1} << 40) - 1}) {
    for (float value : Row(Spec(3, 42), class_id)) text += absl::StrFormat("%a ", value);
  }
  EXPECT_EQ(
      text,
      "-0x1.20795ap-11 -0x1.1651acp-7 0x1.cb53aep-9 0x1.1708f6p-7 0x1.07359cp-6 -0x1.a15daep-7 -0x1.15775p-7 0x1.947fa2p-8 0x1.e636ep-9 ");
}

}  // namespace
}  // namespace myriad
