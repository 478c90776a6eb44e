#ifndef MYRIAD_WORKER_BACKBONE_PRELU_KERNELS_H_
#define MYRIAD_WORKER_BACKBONE_PRELU_KERNELS_H_

#include <cstdint>

namespace myriad {

// The way back through a PReLU, for `rows` rows of `channels` floats each, contiguous: dx = dy where x > 0, else weight * dy; and
// weight_gradient[c] += sum over the rows of x * dy where x <= 0. `dx` overlaps nothing else.
void PReluBackward(const float* x, const float* weight, const float* dy, int64_t rows, int64_t channels, float* dx, float* weight_gradient);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_PRELU_KERNELS_H_
