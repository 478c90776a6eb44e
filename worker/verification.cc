#include "worker/verification.h"

#include <algorithm>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "absl/types/span.h"
#include "proto/wire/status.h"
#include "worker/autocast.h"
#include "worker/data/image_tensor.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

// The images' embeddings, L2-normalised, in order: images.size() x D on the CPU. A zero embedding stays zero.
absl::StatusOr<at::Tensor> EmbedImages(const Dataset& dataset, absl::Span<const int64_t> images, const EmbedOptions& options,
                                       Backbone* backbone) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (size_t first = 0; first < images.size(); first += options.batch_size) {
    const absl::Span<const int64_t> batch = images.subspan(first, options.batch_size);
    absl::StatusOr<at::Tensor> pixels = ReadImages(dataset, batch, options.reader_threads);
    if (!pixels.ok()) return pixels.status();
    absl::StatusOr<at::Tensor> embeddings = absl::InternalError("no forward pass was made");
    absl::Status status = GuardTorch("embedding images", [&] {
      Bfloat16Autocast autocast(options.bfloat16, options.device.type());
      embeddings = backbone->Forward(pixels->to(options.device));
      if (embeddings.ok()) parts.push_back((*embeddings / embeddings->norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12)).to(at::kCPU));
    });
    if (status.ok()) status = embeddings.status();
    if (!status.ok()) return status;
  }
  return GuardTorchValue<at::Tensor>("joining embeddings", [&] { return at::cat(parts); });
}

absl::StatusOr<VerificationMetrics> VerifyInEvaluationMode(const VerificationSet& set, const EmbedOptions& options, Backbone* backbone) {
  std::vector<int64_t> images;
  for (const VerificationPair& pair : set.pairs) {
    images.push_back(pair.first);
    images.push_back(pair.second);
  }
  std::sort(images.begin(), images.end());
  images.erase(std::unique(images.begin(), images.end()), images.end());
  absl::StatusOr<at::Tensor> embeddings = EmbedImages(*set.dataset, images, options, backbone);
  if (!embeddings.ok()) return embeddings.status();

  const auto row_of = [&](int64_t image) { return std::lower_bound(images.begin(), images.end(), image) - images.begin(); };
  const int64_t dim = embeddings->size(1);
  const float* data = embeddings->const_data_ptr<float>();
  std::vector<float> scores;
  std::vector<bool> same;
  for (const VerificationPair& pair : set.pairs) {
    const float* a = data + row_of(pair.first) * dim;
    const float* b = data + row_of(pair.second) * dim;
    double dot = 0.0;
    for (int64_t d = 0; d < dim; ++d) dot += static_cast<double>(a[d]) * b[d];
    scores.push_back(static_cast<float>(dot));
    same.push_back(pair.same);
  }
  return MeasureVerification(scores, same, kVerificationFolds, set.false_accept_rates);
}

}  // namespace

absl::StatusOr<VerificationMetrics> Verify(const VerificationSet& set, const EmbedOptions& options, Backbone* backbone) {
  const int threads = at::get_num_threads();
  if (options.compute_threads > 0) at::set_num_threads(options.compute_threads);
  backbone->SetTraining(false);
  absl::StatusOr<VerificationMetrics> metrics = VerifyInEvaluationMode(set, options, backbone);
  backbone->SetTraining(true);
  at::set_num_threads(threads);
  if (!metrics.ok()) return Annotate(metrics.status(), "verification " + set.name);
  return metrics;
}

}  // namespace myriad
