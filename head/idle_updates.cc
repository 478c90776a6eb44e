#include "head/idle_updates.h"

#include <algorithm>
#include <cmath>

namespace myriad {
namespace {

// Blocks of 2^4 steps are the smallest that are kept.
constexpr int kFirstLevel = 4;
// log2 of what may be left of a row's own momentum when it settles.
constexpr double kSettled = -24.0;
constexpr double kLeastKept = 1.0 / 16.0;
constexpr SgdStep kLeftOut = {/*momentum=*/1.0f, /*coupled_decay=*/0.0f, /*decoupled_decay=*/0.0f, /*rate=*/0.0f};

RowMap MapOf(const SgdStep& step) {
  const double mu = step.momentum, a = step.coupled_decay, b = step.decoupled_decay, r = step.rate;
  return {1.0 - r * (a + b), -r * mu, a, mu};
}

RowMap Then(const RowMap& first, const RowMap& second) {
  return {second.ww * first.ww + second.wv * first.vw, second.ww * first.wv + second.wv * first.vv,
          second.vw * first.ww + second.vv * first.vw, second.vw * first.wv + second.vv * first.vv};
}

}  // namespace

void IdleUpdates::Append(int64_t step, const SgdStep& constants) {
  if (empty()) first_ = step;
  while (end_step() < step) AppendNext(kLeftOut);
  AppendNext(constants);
}

void IdleUpdates::Restore(int64_t first_step, absl::Span<const SgdStep> steps) {
  first_ = first_step;
  for (const SgdStep& step : steps) AppendNext(step);
}

void IdleUpdates::Reserve(int64_t step) {
  const int64_t count = (empty() ? 0 : step - first_) + 1;
  const auto reserve = [](auto* vector, int64_t size) {
    if (size > static_cast<int64_t>(vector->capacity())) vector->reserve(size + size / 2 + 64);
  };
  reserve(&steps_, count);
  reserve(&ratios_, count);
  reserve(&contractions_, count + 1);
  reserve(&settle_after_, count + 1);
  for (int level = kFirstLevel; count >> level > 0; ++level) {
    const size_t index = level - kFirstLevel;
    if (index == blocks_.size()) blocks_.emplace_back();
    reserve(&blocks_[index], count >> level);
  }
}

void IdleUpdates::AppendNext(const SgdStep& constants) {
  if (empty()) contractions_.push_back(0.0);
  const double before = empty() ? 0.0 : ratios_.back();
  steps_.push_back(constants);
  const int64_t count = static_cast<int64_t>(steps_.size());

  const double pushed = constants.momentum * before + constants.coupled_decay;
  const double kept = 1.0 - constants.rate * (constants.decoupled_decay + pushed);
  const double ratio = pushed / kept;
  if (std::abs(kept) >= kLeastKept && std::isfinite(ratio)) {
    // A step without momentum settles a row alone; -infinity could not be subtracted.
    contractions_.push_back(contractions_.back() + std::max(std::log2(constants.momentum / std::abs(kept)), kSettled));
    ratios_.push_back(ratio);
  } else {
    contractions_.push_back(contractions_.back());
    ratios_.push_back(0.0);
    restart_ = count;
  }
  for (int64_t row = settle_after_.size(); contractions_[count] - contractions_[std::max(row, restart_)] <= kSettled; ++row) {
    settle_after_.push_back(static_cast<int32_t>(count - row));
  }

  for (int level = kFirstLevel; count % (int64_t{1} << level) == 0; ++level) {
    const size_t index = level - kFirstLevel;
    if (index == blocks_.size()) blocks_.emplace_back();
    const int64_t block = (count >> level) - 1;
    RowMap map;
    if (level == kFirstLevel) {
      for (int64_t i = block << level; i < count; ++i) map = Then(map, MapOf(steps_[i]));
    } else {
      map = Then(blocks_[index - 1][2 * block], blocks_[index - 1][2 * block + 1]);
    }
    blocks_[index].push_back(map);
  }
}

RowMap IdleUpdates::Between(int64_t last, int64_t until) const {
  RowMap map;
  int64_t begin = std::max(last + 1, first_) - first_;
  const int64_t end = std::min(until + 1, end_step()) - first_;
  // From aligned block to aligned block, the largest that fits: the same ones for the same range.
  while (begin < end) {
    int level = 0;
    while (begin % (int64_t{2} << level) == 0 && begin + (int64_t{2} << level) <= end) ++level;
    if (level < kFirstLevel) {
      map = Then(map, MapOf(steps_[begin++]));
    } else {
      map = Then(map, blocks_[level - kFirstLevel][begin >> level]);
      begin += int64_t{1} << level;
    }
  }
  return map;
}

int64_t IdleUpdates::SettlingStep(int64_t last) const {
  const int64_t before = std::max(last, first_ - 1) - (first_ - 1);
  if (before >= static_cast<int64_t>(settle_after_.size())) return kNotYet;
  return first_ - 1 + before + settle_after_[before];
}

RowMap IdleUpdates::SinceSettling(int64_t settled, int64_t until) const {
  double ratio = 0.0;
  if (!empty() && settled >= first_) ratio = ratios_[std::min(settled, end_step() - 1) - first_];
  const RowMap map = Between(settled, until);
  return {map.ww + map.wv * ratio, 0.0, map.vw + map.vv * ratio, 0.0};
}

}  // namespace myriad
