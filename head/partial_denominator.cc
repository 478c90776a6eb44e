#include "head/partial_denominator.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// exp(value - reference), 0 for an empty share (-inf), whatever the reference.
double ScaledExp(double value, double reference) { return value == kNegativeInfinity ? 0.0 : std::exp(value - reference); }

absl::Status CheckShare(const Denominators& share, size_t k, int64_t sample_count) {
  if (static_cast<int64_t>(share.max_logit.size()) != sample_count || static_cast<int64_t>(share.sum_exp.size()) != sample_count) {
    return absl::InvalidArgumentError(absl::StrCat("share ", k, " has ", share.max_logit.size(), " maxima and ", share.sum_exp.size(),
                                                   " sums for a batch of ", sample_count));
  }
  if (share.target_logit.size() != share.target_index.size() || share.target_cosine.size() != share.target_index.size()) {
    return absl::InvalidArgumentError(absl::StrCat("share ", k, " has ", share.target_index.size(), " target indices, ",
                                                   share.target_logit.size(), " target logits and ", share.target_cosine.size(),
                                                   " target cosines"));
  }
  for (int64_t i = 0; i < sample_count; ++i) {
    const bool empty = share.max_logit[i] == -std::numeric_limits<float>::infinity() && share.sum_exp[i] == 0.0;
    if (empty) continue;
    if (!std::isfinite(share.max_logit[i]) || !std::isfinite(share.sum_exp[i]) || share.sum_exp[i] < 0.0) {
      return absl::InvalidArgumentError(absl::StrCat("share ", k, ", sample ", i, ": maximum ", share.max_logit[i],
                                                     " and sum of exponentials ", share.sum_exp[i], " are no partial denominator"));
    }
  }
  int64_t last = -1;
  for (size_t t = 0; t < share.target_index.size(); ++t) {
    const int64_t i = share.target_index[t];
    if (i <= last || i >= sample_count) {
      return absl::InvalidArgumentError(absl::StrCat("share ", k, ", sample ", i, ": target indices must increase within a batch of ",
                                                     sample_count, " (the one before is ", last, ")"));
    }
    last = i;
    if (!std::isfinite(share.target_logit[t]) || !std::isfinite(share.target_cosine[t])) {
      return absl::InvalidArgumentError(absl::StrCat("share ", k, ", sample ", i, ": target logit ", share.target_logit[t], " with cosine ",
                                                     share.target_cosine[t], " is not finite"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

PartialDenominator Merge(PartialDenominator a, PartialDenominator b) {
  PartialDenominator merged;
  merged.max_logit = std::max(a.max_logit, b.max_logit);
  merged.sum_exp = a.sum_exp * ScaledExp(a.max_logit, merged.max_logit) + b.sum_exp * ScaledExp(b.max_logit, merged.max_logit);
  return merged;
}

absl::StatusOr<MergedDenominators> MergeShares(absl::Span<const Denominators> shares, int64_t sample_count) {
  MergedDenominators merged;
  merged.target_present.assign(sample_count, 0);
  std::vector<double> target_logit(sample_count, kNegativeInfinity);
  std::vector<double> max_logit(sample_count, kNegativeInfinity);
  for (size_t k = 0; k < shares.size(); ++k) {
    const Denominators& share = shares[k];
    if (absl::Status status = CheckShare(share, k, sample_count); !status.ok()) return status;
    for (size_t t = 0; t < share.target_index.size(); ++t) {
      const int32_t i = share.target_index[t];
      if (merged.target_present[i]) {
        return absl::InvalidArgumentError(absl::StrCat("share ", k, ", sample ", i, ": a second target for one sample"));
      }
      merged.target_present[i] = 1;
      target_logit[i] = share.target_logit[t];
      max_logit[i] = std::max(max_logit[i], share.target_logit[t]);
      merged.target_cosine_sum += share.target_cosine[t];
      ++merged.target_count;
    }
    for (int64_t i = 0; i < sample_count; ++i) max_logit[i] = std::max(max_logit[i], static_cast<double>(share.max_logit[i]));
  }
  std::vector<double> sum(sample_count, 0.0);
  for (const Denominators& share : shares) {
    for (int64_t i = 0; i < sample_count; ++i) sum[i] += share.sum_exp[i] * ScaledExp(share.max_logit[i], max_logit[i]);
  }
  merged.log_z.resize(sample_count);
  for (int64_t i = 0; i < sample_count; ++i) {
    // log Z - z_y without the cancellation that subtracting two large numbers would bring.
    const double rest = sum[i] + ScaledExp(target_logit[i], max_logit[i]);
    merged.log_z[i] = rest == 0.0 ? kNegativeInfinity : max_logit[i] + std::log(rest);
    if (merged.target_present[i]) merged.loss_sum += (max_logit[i] - target_logit[i]) + std::log(rest);
  }
  return merged;
}

}  // namespace myriad
