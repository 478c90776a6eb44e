#include "worker/data/image_tensor.h"

#include <array>
#include <exception>
#include <vector>

#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "worker/data/parallel.h"

namespace myriad {
namespace {

const std::array<float, 256>& NormalizedValues() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table;
    for (int v = 0; v < 256; ++v) table[v] = (v / 255.0f - 0.5f) / 0.5f;
    return table;
  }();
  return values;
}

}  // namespace

void NormalizeImage(const uint8_t* in, int size, int channels, float* out) {
  const std::array<float, 256>& values = NormalizedValues();
  const int64_t count = int64_t{size} * size;
  for (int c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < count; ++i) *out++ = values[in[i * channels + c]];
  }
}

absl::StatusOr<at::Tensor> ReadImages(const Dataset& dataset, absl::Span<const int64_t> images, int threads) {
  at::Tensor out;
  try {
    const int64_t size = dataset.image_size();
    out = at::empty({static_cast<int64_t>(images.size()), dataset.channels(), size, size}, at::kFloat);
  } catch (const std::exception& e) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", images.size(), " images: ", e.what()));
  }
  float* data = out.data_ptr<float>();
  std::vector<std::vector<uint8_t>> bytes(threads, std::vector<uint8_t>(dataset.image_bytes()));
  absl::Status status = ParallelFor(images.size(), threads, [&](int64_t i, int thread) {
    absl::Status read = dataset.ReadImage(images[i], bytes[thread].data());
    if (read.ok()) NormalizeImage(bytes[thread].data(), dataset.image_size(), dataset.channels(), data + i * dataset.image_bytes());
    return read;
  });
  if (!status.ok()) return status;
  return out;
}

}  // namespace myriad
