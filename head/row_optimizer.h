#ifndef MYRIAD_HEAD_ROW_OPTIMIZER_H_
#define MYRIAD_HEAD_ROW_OPTIMIZER_H_

#include <variant>

#include "head/head_spec.h"
#include "head/row_kernels.h"

namespace myriad {

// True if rows can move with such a rate: it and rate = learning_rate * rate_scale are numbers >= 0 that stay finite in float32, in which
// rows move. An infinite one would make NaN of every element, with a zero gradient too.
bool IsUsableRate(const OptimizerOptions& optimizer, double learning_rate);

// One step of an optimizer. std::visit picks the row kernel once for all rows of a step:
//   std::visit([&](const auto& step) { for (...) UpdateRow(step, ...); }, MakeOptimizerStep(optimizer, learning_rate));
using OptimizerStep = std::variant<SgdStep, AdamWStep, AdagradStep>;
OptimizerStep MakeOptimizerStep(const OptimizerOptions& optimizer, double learning_rate);

// That of SGD. Requires: optimizer.kind == kSgd.
SgdStep MakeSgdStep(const OptimizerOptions& optimizer, double learning_rate);

}  // namespace myriad

#endif  // MYRIAD_HEAD_ROW_OPTIMIZER_H_
