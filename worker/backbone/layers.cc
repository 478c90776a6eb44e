#include "worker/backbone/layers.h"

namespace myriad {

torch::nn::Conv2d Conv(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

torch::nn::BatchNorm2d Norm(int64_t channels) { return torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(channels).eps(1e-5)); }

int64_t HalvedSide(int64_t side, int halvings) {
  for (int i = 0; i < halvings; ++i) side = (side + 1) / 2;
  return side;
}

}  // namespace myriad
