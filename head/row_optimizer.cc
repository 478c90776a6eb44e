#include "head/row_optimizer.h"

#include <cmath>

#include "head/row_kernels.h"

namespace myriad {

bool IsUsableRate(const SgdOptions& sgd, double learning_rate) {
  return learning_rate >= 0.0 && std::isfinite(static_cast<float>(learning_rate)) &&
         std::isfinite(static_cast<float>(learning_rate * sgd.rate_scale));
}

SgdStep MakeSgdStep(const SgdOptions& sgd, double learning_rate) {
  SgdStep step;
  step.momentum = static_cast<float>(sgd.momentum);
  step.coupled_decay = sgd.decoupled_weight_decay ? 0.0f : static_cast<float>(sgd.weight_decay);
  step.decoupled_decay = sgd.decoupled_weight_decay ? static_cast<float>(sgd.weight_decay) : 0.0f;
  step.rate = static_cast<float>(learning_rate * sgd.rate_scale);
  return step;
}

void SgdUpdateRow(const SgdOptions& sgd, double learning_rate, int dim, const float* gradient, float* weights, float* momentum) {
  SgdRow(MakeSgdStep(sgd, learning_rate), gradient, dim, weights, momentum);
}

}  // namespace myriad
