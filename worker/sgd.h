#ifndef MYRIAD_WORKER_SGD_H_
#define MYRIAD_WORKER_SGD_H_

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

// Moves the backbone's parameters as torch.optim.SGD without dampening: g += lambda w; v = mu v + g (v = g at first); w -= rate v.
// Thread-compatible.
class BackboneSgd {
 public:
  struct Options {
    double momentum = 0.9;       // mu, in [0, 1).
    double weight_decay = 5e-4;  // lambda, >= 0.
  };

  // `parameters` share memory with the network. Errors: INVALID_ARGUMENT naming field, value and range.
  static absl::StatusOr<BackboneSgd> Create(const Options& options, std::vector<at::Tensor> parameters);

  // One step. Requires that every parameter has a gradient.
  absl::Status Step(double learning_rate);

  // v of each parameter, in their order, laid out in memory as they are and shared with the optimizer. None before the first step, and none
  // without momentum.
  const std::vector<at::Tensor>& momenta() const { return momenta_; }
  // Makes momenta() of zeros, for the caller to fill with those of an optimizer that has taken steps.
  absl::Status MakeMomenta();

 private:
  BackboneSgd(const Options& options, std::vector<at::Tensor> parameters) : options_(options), parameters_(std::move(parameters)) {}

  Options options_;
  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> momenta_;  // Made in the first step, or by MakeMomenta().
};

// The L2 norm over the gradients of all `parameters`, in float64. Where it is above `max_norm`, the gradients are scaled down to it. A norm
// that is not finite is INVALID_ARGUMENT and nothing changes; `max_norm` may be infinity: only the norm is told.
absl::StatusOr<double> ClipGradients(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace myriad

#endif  // MYRIAD_WORKER_SGD_H_
