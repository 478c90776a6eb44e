#include "worker/sgd.h"

#include <cmath>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "absl/strings/str_cat.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

std::vector<at::Tensor> GradientsOf(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const at::Tensor& parameter : parameters) {
    TORCH_CHECK(parameter.grad().defined(), "a parameter of ", parameter.sizes(), " has no gradient");
    gradients.push_back(parameter.grad());
  }
  return gradients;
}

}  // namespace

absl::StatusOr<BackboneSgd> BackboneSgd::Create(const Options& options, std::vector<at::Tensor> parameters) {
  if (!(options.momentum >= 0.0 && options.momentum < 1.0)) {
    return absl::InvalidArgumentError(absl::StrCat("backbone_optimizer.momentum is ", options.momentum, "; it must be in [0, 1)"));
  }
  if (!(options.weight_decay >= 0.0) || !std::isfinite(options.weight_decay)) {
    return absl::InvalidArgumentError(absl::StrCat("backbone_optimizer.weight_decay is ", options.weight_decay, "; it must be >= 0"));
  }
  return BackboneSgd(options, std::move(parameters));
}

absl::Status BackboneSgd::Step(double learning_rate) {
  return GuardTorch("backbone optimizer", [&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> gradients = GradientsOf(parameters_);
    // The fused kernel walks memory: gradients must lie as their parameters do (autograd sees to it for its own).
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].strides() != parameters_[i].strides()) gradients[i] = at::empty_like(parameters_[i]).copy_(gradients[i]);
    }
    // Without momentum there is no buffer to keep.
    const bool first = momenta_.empty() && options_.momentum > 0.0;
    if (first) {
      for (const at::Tensor& parameter : parameters_) momenta_.push_back(at::empty_like(parameter));
    }
    at::_fused_sgd_(parameters_, gradients, momenta_, options_.weight_decay, options_.momentum, learning_rate, /*dampening=*/0.0,
                    /*nesterov=*/false, /*maximize=*/false, first);
  });
}

absl::Status BackboneSgd::MakeMomenta() {
  return GuardTorch("backbone optimizer", [&] {
    momenta_.clear();
    if (options_.momentum == 0.0) return;
    for (const at::Tensor& parameter : parameters_) momenta_.push_back(at::zeros_like(parameter));
  });
}

absl::StatusOr<double> ClipGradients(const std::vector<at::Tensor>& parameters, double max_norm) {
  double norm = 0.0;
  absl::Status status = GuardTorch("clipping gradients", [&] {
    at::NoGradGuard no_grad;
    const std::vector<at::Tensor> gradients = GradientsOf(parameters);
    const std::vector<at::Tensor> norms = at::_foreach_norm(gradients, 2);
    norm = at::linalg_vector_norm(at::stack(norms).to(at::kDouble)).item<double>();
    if (std::isfinite(norm) && norm > max_norm) at::_foreach_mul_(gradients, max_norm / norm);
  });
  if (!status.ok()) return status;
  if (!std::isfinite(norm)) return absl::InvalidArgumentError(absl::StrCat("the norm of the backbone's gradients is ", norm));
  return norm;
}

}  // namespace myriad
