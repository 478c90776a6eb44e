#ifndef MYRIAD_HEAD_ROW_OPTIMIZER_H_
#define MYRIAD_HEAD_ROW_OPTIMIZER_H_

#include "head/head_spec.h"
#include "head/row_kernels.h"

namespace myriad {

// Moves one row by SGD as SgdOptions states it, with rate = learning_rate * rate_scale. `gradient`, `weights` and `momentum` are D floats.
// Thread-safe on different rows.
void SgdUpdateRow(const SgdOptions& sgd, double learning_rate, int dim, const float* gradient, float* weights, float* momentum);

// True if rows can move with such a rate: it and rate = learning_rate * rate_scale are numbers >= 0 that stay finite in float32, in which
// rows move. An infinite one would make NaN of every element, with a zero gradient too.
bool IsUsableRate(const SgdOptions& sgd, double learning_rate);

// The constants of SgdUpdateRow, for callers that fuse it with other passes.
SgdStep MakeSgdStep(const SgdOptions& sgd, double learning_rate);

}  // namespace myriad

#endif  // MYRIAD_HEAD_ROW_OPTIMIZER_H_
