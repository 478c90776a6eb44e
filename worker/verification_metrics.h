#ifndef MYRIAD_WORKER_VERIFICATION_METRICS_H_
#define MYRIAD_WORKER_VERIFICATION_METRICS_H_

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// How well scores tell pairs of one identity from pairs of two.
struct VerificationMetrics {
  double accuracy = 0.0;            // Mean over the folds.
  double accuracy_deviation = 0.0;  // Standard deviation over the folds (divided by their number).
  double threshold = 0.0;           // Mean over the folds: a pair is called the same where its score is at least this.
  // (false accept rate, true accept rate) for each rate asked for.
  std::vector<std::pair<double, double>> true_accept_rates;
};

// The protocol of LFW: the pairs lie in `folds` equal parts in order; the pairs of each part are judged by the threshold that is best
// on all other parts. Among equally good thresholds the middle one of the first best gap between scores is taken.
//
// TAR at FAR f, over all pairs at once: the largest part of same pairs accepted by a threshold that accepts at most a part f of the
// different pairs. Equal scores are accepted or refused together.
//
// Errors: INVALID_ARGUMENT: no pairs, another number of scores than of answers, a number that `folds` does not divide, folds < 2, a score
// that is not finite (names its number), no same or no different pair.
absl::StatusOr<VerificationMetrics> MeasureVerification(absl::Span<const float> scores, const std::vector<bool>& same, int folds,
                                                        absl::Span<const double> false_accept_rates);

}  // namespace myriad

#endif  // MYRIAD_WORKER_VERIFICATION_METRICS_H_
