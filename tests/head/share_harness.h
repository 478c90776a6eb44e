#ifndef MYRIAD_TESTS_HEAD_SHARE_HARNESS_H_
#define MYRIAD_TESTS_HEAD_SHARE_HARNESS_H_

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partial_denominator.h"
#include "head/softmax_share.h"

namespace myriad {

// W and its momentum in float32, with K SoftmaxShares that each own a part of the rows: training as the shards do it, without any RPC.
class ShareHarness {
 public:
  struct Outcome {
    MergedDenominators merged;
    std::vector<float> embedding_gradients;  // B x D, summed over the shares.
    double loss = 0.0;
  };

  // `share_of_class[c]` in [0, share_count) owns class c. Rows are normal with deviation 0.01 unless set.
  ShareHarness(const SoftmaxShare::Options& options, const OptimizerOptions& sgd, const std::vector<int>& share_of_class, int share_count,
               uint32_t seed);

  // A step in chunks that end at the samples `chunk_ends` (the last is B). Fails the test on any error.
  Outcome Step(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings, absl::Span<const int64_t> labels,
               absl::Span<const int64_t> chunk_ends, double learning_rate);

  std::vector<float>& weights(int64_t class_id) { return weights_[class_id]; }
  std::vector<float>& momentum(int64_t class_id) { return momentum_[class_id]; }
  int64_t class_count() const { return static_cast<int64_t>(weights_.size()); }

 private:
  const SoftmaxShare::Options options_;
  const OptimizerOptions sgd_;
  const std::vector<int> share_of_class_;
  std::vector<std::unique_ptr<SoftmaxShare>> shares_;
  std::vector<std::vector<float>> weights_, momentum_;
};

// n normal numbers.
std::vector<float> RandomNormal(std::mt19937& rng, int64_t n, double deviation);

}  // namespace myriad

#endif  // MYRIAD_TESTS_HEAD_SHARE_HARNESS_H_
