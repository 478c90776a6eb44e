#include "server/coverage.h"

#include <algorithm>
#include <numeric>

#include "head/counter_random.h"

namespace myriad {
namespace {

constexpr double kQuantiles[] = {0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0};
constexpr uint64_t kWatchPurpose = 0x7761746368;

uint64_t OneIn(int64_t class_count, int64_t most_classes) { return static_cast<uint64_t>((class_count + most_classes - 1) / most_classes); }

}  // namespace

void CountSteps(int64_t steps, std::vector<int64_t>* histogram) {
  const size_t entry = steps == 0 ? 0 : 64 - static_cast<size_t>(__builtin_clzll(static_cast<uint64_t>(steps)));
  if (entry >= histogram->size()) histogram->resize(entry + 1, 0);
  ++(*histogram)[entry];
}

void SummarizeNorms(std::vector<double> norms, Coverage* coverage) {
  coverage->norm_quantiles.clear();
  if (norms.empty()) return;
  coverage->norm_mean = std::accumulate(norms.begin(), norms.end(), 0.0) / static_cast<double>(norms.size());
  std::sort(norms.begin(), norms.end());
  for (const double q : kQuantiles) {
    coverage->norm_quantiles.push_back(norms[static_cast<size_t>(q * static_cast<double>(norms.size() - 1) + 0.5)]);
  }
}

PositiveWatch::PositiveWatch(int64_t class_count, int64_t most_classes)
    : most_classes_(most_classes), one_in_(OneIn(class_count, most_classes)), class_count_(class_count) {}

void PositiveWatch::Grow(int64_t class_count) {
  absl::MutexLock lock(&mu_);
  class_count_ = class_count;
  one_in_ = OneIn(class_count, most_classes_);
  // The smallest hashes are watched, so those of a smaller part were among those of a larger one.
  absl::erase_if(last_positive_, [this](const auto& entry) {
    mu_.AssertHeld();
    return !IsWatched(entry.first);
  });
}

bool PositiveWatch::IsWatched(int64_t class_id) const {
  return one_in_ <= 1 || UniformBelow(Mix64(static_cast<uint64_t>(class_id) ^ kWatchPurpose), one_in_) == 0;
}

void PositiveWatch::Record(int64_t step, absl::Span<const int64_t> labels) {
  absl::MutexLock lock(&mu_);
  for (const int64_t label : labels) {
    if (IsWatched(label)) last_positive_[label] = step;
  }
}

void PositiveWatch::Summarize(int64_t committed_steps, Coverage* coverage) const {
  absl::MutexLock lock(&mu_);
  // How many classes a hash picks is known by its rate.
  coverage->watched_classes =
      std::max<int64_t>(class_count_ / static_cast<int64_t>(std::max<uint64_t>(1, one_in_)), static_cast<int64_t>(last_positive_.size()));
  coverage->never_positive = coverage->watched_classes - static_cast<int64_t>(last_positive_.size());
  coverage->steps_since_positive.clear();
  for (const auto& [label, step] : last_positive_) {
    CountSteps(std::max<int64_t>(0, committed_steps - 1 - step), &coverage->steps_since_positive);
  }
}

}  // namespace myriad
