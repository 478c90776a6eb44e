#include "worker/verification_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

struct ScoredPair {
  float score;
  bool same;
};

// The threshold with the most right answers on `pairs` (sorted by falling score).
double BestThreshold(const std::vector<ScoredPair>& pairs) {
  int64_t right = std::count_if(pairs.begin(), pairs.end(), [](const ScoredPair& pair) { return !pair.same; });  // Nothing accepted.
  int64_t best_right = right;
  double best = pairs.front().score + 1.0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    right += pairs[i].same ? 1 : -1;
    const bool last = i + 1 == pairs.size();
    if (!last && pairs[i + 1].score == pairs[i].score) continue;
    if (right > best_right) {
      best_right = right;
      best = last ? pairs[i].score - 1.0 : 0.5 * (static_cast<double>(pairs[i].score) + pairs[i + 1].score);
    }
  }
  return best;
}

double TrueAcceptRate(const std::vector<ScoredPair>& pairs, int64_t same_count, double false_accept_rate) {
  const int64_t different_count = static_cast<int64_t>(pairs.size()) - same_count;
  int64_t accepted_same = 0;
  int64_t accepted_different = 0;
  double best = 0.0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    (pairs[i].same ? accepted_same : accepted_different) += 1;
    if (i + 1 < pairs.size() && pairs[i + 1].score == pairs[i].score) continue;
    if (static_cast<double>(accepted_different) > false_accept_rate * static_cast<double>(different_count)) break;
    best = static_cast<double>(accepted_same) / static_cast<double>(same_count);
  }
  return best;
}

}  // namespace

absl::StatusOr<VerificationMetrics> MeasureVerification(absl::Span<const float> scores, const std::vector<bool>& same, int folds,
                                                        absl::Span<const double> false_accept_rates) {
  const int64_t count = scores.size();
  if (folds < 2 || count == 0 || count % folds != 0) {
    return absl::InvalidArgumentError(absl::StrCat(count, " verification pairs cannot be split in ", folds, " equal folds"));
  }
  if (same.size() != scores.size()) {
    return absl::InvalidArgumentError(absl::StrCat(count, " verification scores for ", same.size(), " answers"));
  }
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(scores[i])) return absl::InvalidArgumentError(absl::StrCat("the score of verification pair ", i, " is ", scores[i]));
  }
  const int64_t same_count = std::count(same.begin(), same.end(), true);
  if (same_count == 0 || same_count == count) {
    return absl::InvalidArgumentError(absl::StrCat(same_count, " of ", count, " verification pairs are the same; both kinds are needed"));
  }

  // Sorted once; each fold's training pairs are then a filter of the order.
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });

  VerificationMetrics metrics;
  const int64_t fold_size = count / folds;
  std::vector<double> accuracies;
  std::vector<ScoredPair> others;
  for (int fold = 0; fold < folds; ++fold) {
    others.clear();
    for (int64_t i : order) {
      if (i / fold_size != fold) others.push_back({scores[i], same[i]});
    }
    const double threshold = BestThreshold(others);
    int64_t right = 0;
    for (int64_t i = fold * fold_size; i < (fold + 1) * fold_size; ++i) right += (scores[i] >= threshold) == same[i];
    accuracies.push_back(static_cast<double>(right) / static_cast<double>(fold_size));
    metrics.threshold += threshold / folds;
  }
  metrics.accuracy = std::accumulate(accuracies.begin(), accuracies.end(), 0.0) / folds;
  double square = 0.0;
  for (double accuracy : accuracies) square += (accuracy - metrics.accuracy) * (accuracy - metrics.accuracy);
  metrics.accuracy_deviation = std::sqrt(square / folds);

  std::vector<ScoredPair> all;
  all.reserve(count);
  for (int64_t i : order) all.push_back({scores[i], same[i]});
  for (double rate : false_accept_rates) metrics.true_accept_rates.emplace_back(rate, TrueAcceptRate(all, same_count, rate));
  return metrics;
}

}  // namespace myriad
