#ifndef MYRIAD_HEAD_PARTIAL_DENOMINATOR_H_
#define MYRIAD_HEAD_PARTIAL_DENOMINATOR_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// One participant's share of a softmax denominator, and how shares combine. For embedding i and the rows S_k of participant k other than
// its own class y_i (whose logit travels apart), with logits z_ij = s*cos(theta_ij) (arXiv:2010.05222):
//   m_ik = max_{j in S_k} z_ij,   l_ik = sum_{j in S_k} exp(z_ij - m_ik)
//   log Z_i = m_i + log(sum_k l_ik exp(m_ik - m_i) + exp(z_iy - m_i)),   m_i = max(z_iy, max_k m_ik)
struct PartialDenominator {
  float max_logit = -std::numeric_limits<float>::infinity();  // m_ik; -inf when the participant has no such row.
  double sum_exp = 0.0;                                       // l_ik, in [0, |S_k|].
};

PartialDenominator Merge(PartialDenominator a, PartialDenominator b);  // Commutative; associative up to rounding.

// The share of a batch of B samples that one participant sends to the reducer.
struct Denominators {
  std::vector<float> max_logit;       // B.
  std::vector<double> sum_exp;        // B.
  std::vector<int32_t> target_index;  // Samples whose target row this participant owns; increasing.
  std::vector<double> target_logit;   // z_iy of those.
  std::vector<float> target_cosine;   // cos(x_i, w_yi) of those.
};

// What the reducer answers.
struct MergedDenominators {
  std::vector<double> log_z;            // B; over all rows of the step, the target included where present.
  std::vector<uint8_t> target_present;  // B; 1 where some participant sent z_iy.
  double loss_sum = 0.0;                // Sum over samples with a target of log Z_i - z_iy.
  double target_cosine_sum = 0.0;
  int64_t target_count = 0;
};

// Merges shares in the given order (the order of shards or ranks: the result repeats bit for bit).
// Errors: INVALID_ARGUMENT: a share of another batch size, a number not finite (max_logit -inf with sum_exp 0 counts as finite), two
// targets for one sample; each names the share and the sample. A sample with no row at all anywhere gets log_z = -inf, no target.
absl::StatusOr<MergedDenominators> MergeShares(absl::Span<const Denominators> shares, int64_t sample_count);

}  // namespace myriad

#endif  // MYRIAD_HEAD_PARTIAL_DENOMINATOR_H_
