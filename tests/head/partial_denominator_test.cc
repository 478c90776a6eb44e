#include "head/partial_denominator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

PartialDenominator Reduce(absl::Span<const float> logits) {
  PartialDenominator share;
  for (float z : logits) share.max_logit = std::max(share.max_logit, z);
  for (float z : logits) share.sum_exp += std::exp(static_cast<double>(z) - share.max_logit);
  return share;
}

double LogDenominator(const PartialDenominator& share) { return share.max_logit + std::log(share.sum_exp); }

double NaiveLogDenominator(const std::vector<float>& logits) {
  long double sum = 0.0;
  for (float z : logits) sum += std::exp(static_cast<long double>(z));
  return static_cast<double>(std::log(sum));
}

std::vector<float> RandomLogits(std::mt19937& rng, float scale) {
  std::uniform_real_distribution<float> cosine(-1.0f, 1.0f);
  std::vector<float> logits(1 + rng() % 200);
  for (float& z : logits) z = scale * cosine(rng);
  return logits;
}

// Contiguous shares, some of them empty, in random order.
std::vector<absl::Span<const float>> RandomSplit(std::mt19937& rng, const std::vector<float>& logits) {
  std::vector<size_t> cuts = {0, logits.size()};
  for (uint32_t i = rng() % 8; i > 0; --i) cuts.push_back(rng() % (logits.size() + 1));
  std::sort(cuts.begin(), cuts.end());
  std::vector<absl::Span<const float>> shares;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) shares.push_back(absl::MakeConstSpan(logits).subspan(cuts[i], cuts[i + 1] - cuts[i]));
  std::shuffle(shares.begin(), shares.end(), rng);
  return shares;
}

// However classes fall on participants, and in whatever order shares arrive, log Z is that of one plain sum.
TEST(PartialDenominatorTest, AnySplitOverShardsMatchesThePlainSum) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937 rng(seed);
    const std::vector<float> logits = RandomLogits(rng, /*scale=*/64.0f);
    PartialDenominator total;
    for (absl::Span<const float> share : RandomSplit(rng, logits)) total = Merge(total, Reduce(share));
    EXPECT_NEAR(LogDenominator(total), NaiveLogDenominator(logits), 1e-9);
  }
}

TEST(PartialDenominatorTest, MergeCommutesAndEmptySharesChangeNothing) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    std::mt19937 rng(seed);
    const PartialDenominator a = Reduce(RandomLogits(rng, 64.0f)), b = Reduce(RandomLogits(rng, 1024.0f));
    const PartialDenominator ab = Merge(a, b), ba = Merge(b, a);
    EXPECT_EQ(ab.max_logit, ba.max_logit);
    EXPECT_EQ(ab.sum_exp, ba.sum_exp);
    EXPECT_EQ(Merge(a, PartialDenominator()).sum_exp, a.sum_exp);
    EXPECT_EQ(Merge(PartialDenominator(), a).max_logit, a.max_logit);
  }
  const PartialDenominator nothing = Merge(PartialDenominator(), PartialDenominator());
  EXPECT_EQ(nothing.max_logit, kNegativeInfinity);
  EXPECT_EQ(nothing.sum_exp, 0.0);
}

// The same through MergeShares, with targets that only their owners send.
TEST(MergeSharesTest, AnySplitWithTargetsMatchesThePlainSum) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937 rng(seed);
    const int64_t samples = 1 + rng() % 5;
    const size_t share_count = 1 + rng() % 7;
    std::vector<Denominators> shares(share_count);
    for (Denominators& share : shares) {
      share.max_logit.assign(samples, kNegativeInfinity);
      share.sum_exp.assign(samples, 0.0);
    }
    std::vector<double> log_z(samples);
    double loss_sum = 0.0;
    int64_t targets = 0;
    for (int64_t i = 0; i < samples; ++i) {
      std::vector<float> logits = RandomLogits(rng, 64.0f);
      for (absl::Span<const float> part : RandomSplit(rng, logits)) {
        Denominators& share = shares[rng() % share_count];
        const PartialDenominator merged = Merge({share.max_logit[i], share.sum_exp[i]}, Reduce(part));
        share.max_logit[i] = merged.max_logit;
        share.sum_exp[i] = merged.sum_exp;
      }
      const bool has_target = rng() % 3 != 0;
      const float target = static_cast<float>(rng() % 128) - 64.0f;
      if (has_target) {
        Denominators& owner = shares[rng() % share_count];
        owner.target_index.push_back(static_cast<int32_t>(i));
        owner.target_logit.push_back(target);
        owner.target_cosine.push_back(0.25f);
        logits.push_back(target);
        ++targets;
      }
      log_z[i] = NaiveLogDenominator(logits);
      if (has_target) loss_sum += log_z[i] - target;
    }
    const absl::StatusOr<MergedDenominators> merged = MergeShares(shares, samples);
    ASSERT_TRUE(merged.ok()) << merged.status();
    for (int64_t i = 0; i < samples; ++i) EXPECT_NEAR(merged->log_z[i], log_z[i], 1e-9);
    EXPECT_NEAR(merged->loss_sum, loss_sum, 1e-8);
    EXPECT_EQ(merged->target_count, targets);
    EXPECT_DOUBLE_EQ(merged->target_cosine_sum, 0.25 * targets);
  }
}

// A loss that is nearly 0 keeps its digits: log Z - z would lose all of them.
TEST(MergeSharesTest, TinyLossesAreNotRoundedAway) {
  Denominators share;
  share.max_logit = {20.0f};
  share.sum_exp = {1.0};
  share.target_index = {0};
  share.target_logit = {60.0};
  share.target_cosine = {0.9f};
  const absl::StatusOr<MergedDenominators> merged = MergeShares({share}, 1);
  ASSERT_TRUE(merged.ok());
  EXPECT_NEAR(merged->loss_sum, std::exp(-40.0), 1e-16);
}

TEST(MergeSharesTest, NoRowsAnywhereGivesMinusInfinity) {
  Denominators share;
  share.max_logit = {kNegativeInfinity, 3.0f};
  share.sum_exp = {0.0, 2.0};
  const absl::StatusOr<MergedDenominators> merged = MergeShares({share, share}, 2);
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->log_z[0], -std::numeric_limits<double>::infinity());
  EXPECT_NEAR(merged->log_z[1], 3.0 + std::log(4.0), 1e-12);
  EXPECT_EQ(merged->target_present, (std::vector<uint8_t>{0, 0}));
  EXPECT_EQ(merged->loss_sum, 0.0);
  EXPECT_TRUE(MergeShares({}, 2).ok());
  EXPECT_TRUE(MergeShares({Denominators()}, 0).ok());
}

Denominators GoodShare() {
  Denominators share;
  share.max_logit = {1.0f, 2.0f};
  share.sum_exp = {1.0, 1.0};
  share.target_index = {1};
  share.target_logit = {0.5};
  share.target_cosine = {0.1f};
  return share;
}

TEST(MergeSharesTest, BadSharesAreRefusedByName) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  struct Case {
    const char* name;
    void (*spoil)(Denominators&);
    const char* message;
  };
  static const float kNan = nan;
  const std::vector<Case> cases = {
      {"ShortMaxima", [](Denominators& s) { s.max_logit.pop_back(); }, "share 1 has 1 maxima"},
      {"ShortSums", [](Denominators& s) { s.sum_exp.pop_back(); }, "1 sums for a batch of 2"},
      {"NanMaximum", [](Denominators& s) { s.max_logit[1] = kNan; }, "share 1, sample 1: maximum"},
      {"NanSum", [](Denominators& s) { s.sum_exp[0] = kNan; }, "share 1, sample 0: maximum"},
      {"InfiniteSum", [](Denominators& s) { s.sum_exp[0] = std::numeric_limits<double>::infinity(); }, "share 1, sample 0: maximum"},
      {"NegativeSum", [](Denominators& s) { s.sum_exp[0] = -1.0; }, "share 1, sample 0: maximum"},
      {"EmptyWithASum", [](Denominators& s) { s.max_logit[0] = kNegativeInfinity; }, "share 1, sample 0: maximum"},
      {"InfiniteMaximum", [](Denominators& s) { s.max_logit[0] = -kNegativeInfinity; }, "share 1, sample 0: maximum"},
      {"NanTarget", [](Denominators& s) { s.target_logit[0] = kNan; }, "share 1, sample 0: target logit"},
      {"NanCosine", [](Denominators& s) { s.target_cosine[0] = kNan; }, "share 1, sample 0: target logit"},
      {"TargetOutside", [](Denominators& s) { s.target_index[0] = 2; }, "share 1, sample 2: target indices"},
      {"TargetBelow", [](Denominators& s) { s.target_index[0] = -1; }, "share 1, sample -1: target indices"},
      {"TwoTargets", [](Denominators& s) { s.target_index[0] = 1; }, "share 1, sample 1: a second target"},
      {"Ragged", [](Denominators& s) { s.target_cosine.clear(); }, "0 target cosines"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Denominators bad = GoodShare();
    bad.target_index[0] = 0;
    ASSERT_TRUE(MergeShares({GoodShare(), bad}, 2).ok());
    c.spoil(bad);
    const absl::Status status = MergeShares({GoodShare(), bad}, 2).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find(c.message), absl::string_view::npos) << status;
  }
}

}  // namespace
}  // namespace myriad
