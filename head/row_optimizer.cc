#include "head/row_optimizer.h"

#include <cmath>

namespace myriad {
namespace {

double Rate(const OptimizerOptions& optimizer, double learning_rate) { return learning_rate * optimizer.rate_scale; }

AdamWStep MakeAdamWStep(const OptimizerOptions& optimizer, double learning_rate) {
  AdamWStep step;
  step.beta1 = optimizer.beta1;
  step.beta2 = optimizer.beta2;
  step.epsilon = static_cast<float>(optimizer.epsilon);
  step.kept = static_cast<float>(1.0 - Rate(optimizer, learning_rate) * optimizer.weight_decay);
  step.rate = static_cast<float>(Rate(optimizer, learning_rate));
  return step;
}

AdagradStep MakeAdagradStep(const OptimizerOptions& optimizer, double learning_rate) {
  AdagradStep step;
  step.decay = static_cast<float>(optimizer.weight_decay);
  step.epsilon = static_cast<float>(optimizer.epsilon);
  step.rate = static_cast<float>(Rate(optimizer, learning_rate));
  return step;
}

}  // namespace

bool IsUsableRate(const OptimizerOptions& optimizer, double learning_rate) {
  return learning_rate >= 0.0 && std::isfinite(static_cast<float>(learning_rate)) &&
         std::isfinite(static_cast<float>(Rate(optimizer, learning_rate)));
}

SgdStep MakeSgdStep(const OptimizerOptions& optimizer, double learning_rate) {
  SgdStep step;
  step.momentum = static_cast<float>(optimizer.momentum);
  step.coupled_decay = optimizer.decoupled_weight_decay ? 0.0f : static_cast<float>(optimizer.weight_decay);
  step.decoupled_decay = optimizer.decoupled_weight_decay ? static_cast<float>(optimizer.weight_decay) : 0.0f;
  step.rate = static_cast<float>(Rate(optimizer, learning_rate));
  return step;
}

OptimizerStep MakeOptimizerStep(const OptimizerOptions& optimizer, double learning_rate) {
  switch (optimizer.kind) {
    case OptimizerKind::kSgd: break;
    case OptimizerKind::kAdamW: return MakeAdamWStep(optimizer, learning_rate);
    case OptimizerKind::kAdagrad: return MakeAdagradStep(optimizer, learning_rate);
  }
  return MakeSgdStep(optimizer, learning_rate);
}

}  // namespace myriad
