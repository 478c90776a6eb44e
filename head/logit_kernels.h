#ifndef MYRIAD_HEAD_LOGIT_KERNELS_H_
#define MYRIAD_HEAD_LOGIT_KERNELS_H_

#include <cstdint>

namespace myriad {

// Passes over a tile of cosines, `rows` classes x `batch` samples, row-major (class-major). Thread-safe on different tiles.

// max_logit[i] = max(max_logit[i], scale * max over rows of cosines[row][i]). A cosine of -inf stands for a class to leave out.
void RaiseMaxLogits(const float* cosines, int64_t rows, int64_t batch, float scale, float* max_logit);

// cosines[row][i] = exp(scale * cosines[row][i] - max_logit[i]) in place (relative error at most 2e-7; 0 below 1e-38), and
// sum_exp[i] += their sum over rows, carried in double. Where max_logit[i] is -inf all are 0. Requires: scale > 0 and logits <=
// max_logit + 1.
void Exponentiate(float* cosines, int64_t rows, int64_t batch, float scale, const float* max_logit, double* sum_exp);

}  // namespace myriad

#endif  // MYRIAD_HEAD_LOGIT_KERNELS_H_
