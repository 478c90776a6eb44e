#include "worker/backbone/prelu_kernels.h"

#include "head/simd.h"

namespace myriad {

MYRIAD_SIMD_CLONES
void PReluBackward(const float* __restrict x, const float* __restrict weight, const float* __restrict dy, int64_t rows, int64_t channels,
                   float* __restrict dx, float* __restrict weight_gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const bool positive = x[at + c] > 0.0f;
      const float below = positive ? 0.0f : dy[at + c];
      weight_gradient[c] += below * x[at + c];
      dx[at + c] = positive ? dy[at + c] : weight[c] * below;
    }
  }
}

}  // namespace myriad
