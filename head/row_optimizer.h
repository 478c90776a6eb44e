#ifndef MYRIAD_HEAD_ROW_OPTIMIZER_H_
#define MYRIAD_HEAD_ROW_OPTIMIZER_H_

#include "head/head_spec.h"
#include "head/row_kernels.h"

namespace myriad {

// Moves one row by SGD as SgdOptions states it, with rate = learning_rate * rate_scale. `gradient`, `weights` and `momentum` are D floats.
// Thread-safe on different rows.
void SgdUpdateRow(const SgdOptions& sgd, double learning_rate, int dim, const float* gradient, float* weights, float* momentum);

// The constants of SgdUpdateRow, for callers that fuse it with other passes.
SgdStep MakeSgdStep(const SgdOptions& sgd, double learning_rate);

}  // namespace myriad

#endif  // MYRIAD_HEAD_ROW_OPTIMIZER_H_
