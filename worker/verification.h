#ifndef MYRIAD_WORKER_VERIFICATION_H_
#define MYRIAD_WORKER_VERIFICATION_H_

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "worker/backbone/backbone.h"
#include "worker/data/dataset.h"
#include "worker/data/pairs.h"
#include "worker/verification_metrics.h"

namespace myriad {

// Pairs of images of identities that the run does not train on.
struct VerificationSet {
  std::string name;
  std::unique_ptr<Dataset> dataset;
  std::vector<VerificationPair> pairs;
  std::vector<double> false_accept_rates;
};

struct EmbedOptions {
  at::Device device = at::kCPU;
  bool bfloat16 = false;
  int reader_threads = 1;
  int compute_threads = 0;  // Of the backbone's arithmetic meanwhile; 0: as it is.
  int64_t batch_size = 256;
};

// Embeds the images that occur in the pairs (once each) with the backbone in evaluation mode, and judges the pairs by the cosines of their
// embeddings. The backbone is in training mode afterwards.
// Errors: those of reading an image, of the forward pass and of MeasureVerification (an embedding that is not finite is INVALID_ARGUMENT),
// starting with the set's name.
absl::StatusOr<VerificationMetrics> Verify(const VerificationSet& set, const EmbedOptions& options, Backbone* backbone);

}  // namespace myriad

#endif  // MYRIAD_WORKER_VERIFICATION_H_
