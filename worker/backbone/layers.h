#ifndef MYRIAD_WORKER_BACKBONE_LAYERS_H_
#define MYRIAD_WORKER_BACKBONE_LAYERS_H_

#include <cstdint>

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>

namespace myriad {

// A convolution without bias, padded so that stride 1 keeps the size and stride 2 halves it, rounding up.
torch::nn::Conv2d Conv(int64_t in, int64_t out, int64_t kernel, int64_t stride);

torch::nn::BatchNorm2d Norm(int64_t channels);

// The side after `halvings` convolutions of stride 2.
int64_t HalvedSide(int64_t side, int halvings);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_LAYERS_H_
