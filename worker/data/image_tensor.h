#ifndef MYRIAD_WORKER_DATA_IMAGE_TENSOR_H_
#define MYRIAD_WORKER_DATA_IMAGE_TENSOR_H_

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/data/dataset.h"

namespace myriad {

// One image from bytes (HWC) to the network's values: out[c][y][x] = (in[y][x][c]/255 - 0.5)/0.5, channels x size x size floats.
void NormalizeImage(const uint8_t* in, int size, int channels, float* out);

// The given images as float32 NCHW on the CPU, normalised, in order; no augmentation. For verification, a few hundred at a time.
// Reads and decodes with up to `threads` threads. Requires: each index in [0, dataset.size()). Errors: that of the first image
// that cannot be read.
absl::StatusOr<at::Tensor> ReadImages(const Dataset& dataset, absl::Span<const int64_t> images, int threads = 1);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_IMAGE_TENSOR_H_
