#include "worker/data/image.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace myriad {
namespace {

// Weights of the input pixels [first, first + weights.size()) in one output pixel; they sum to 1.
struct Tap {
  int first = 0;
  std::vector<float> weights;
};

std::vector<Tap> TriangleTaps(int in, int out) {
  const double ratio = static_cast<double>(in) / out;
  const double support = std::max(1.0, ratio);
  std::vector<Tap> taps(out);
  for (int o = 0; o < out; ++o) {
    const double center = (o + 0.5) * ratio - 0.5;
    const int first = std::max(0, static_cast<int>(std::ceil(center - support)));
    const int last = std::min(in - 1, static_cast<int>(std::floor(center + support)));
    Tap& tap = taps[o];
    tap.first = first;
    double sum = 0;
    for (int i = first; i <= last; ++i) {
      const double weight = std::max(0.0, 1 - std::abs(i - center) / support);
      tap.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : tap.weights) weight = static_cast<float>(weight / sum);
  }
  return taps;
}

}  // namespace

Image ConvertChannels(Image image, int channels) {
  if (image.channels == channels) return image;
  Image out{image.width, image.height, channels, {}};
  const int64_t count = int64_t{image.width} * image.height;
  out.pixels.resize(count * channels);
  const uint8_t* in = image.pixels.data();
  if (channels == 3) {
    for (int64_t i = 0; i < count; ++i) std::fill_n(&out.pixels[3 * i], 3, in[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      out.pixels[i] = static_cast<uint8_t>((299 * in[3 * i] + 587 * in[3 * i + 1] + 114 * in[3 * i + 2] + 500) / 1000);
    }
  }
  return out;
}

Image Resize(Image image, int width, int height) {
  if (image.width == width && image.height == height) return image;
  const int channels = image.channels;
  const std::vector<Tap> across = TriangleTaps(image.width, width);
  const std::vector<Tap> down = TriangleTaps(image.height, height);
  // Rows first, kept in float so that rounding happens once.
  std::vector<float> rows(static_cast<size_t>(image.height) * width * channels);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* in = &image.pixels[static_cast<size_t>(y) * image.width * channels];
    float* out = &rows[static_cast<size_t>(y) * width * channels];
    for (int x = 0; x < width; ++x) {
      const Tap& tap = across[x];
      for (int c = 0; c < channels; ++c) {
        float sum = 0;
        for (size_t k = 0; k < tap.weights.size(); ++k) sum += tap.weights[k] * in[(tap.first + k) * channels + c];
        out[x * channels + c] = sum;
      }
    }
  }
  const size_t stride = static_cast<size_t>(width) * channels;
  Image out{width, height, channels, std::vector<uint8_t>(stride * height)};
  std::vector<float> line(stride);
  for (int y = 0; y < height; ++y) {
    const Tap& tap = down[y];
    std::fill(line.begin(), line.end(), 0.5f);
    for (size_t k = 0; k < tap.weights.size(); ++k) {
      const float* in = &rows[(tap.first + k) * stride];
      for (size_t i = 0; i < stride; ++i) line[i] += tap.weights[k] * in[i];
    }
    for (size_t i = 0; i < stride; ++i) out.pixels[y * stride + i] = static_cast<uint8_t>(std::min(255.0f, line[i]));
  }
  return out;
}

Image FitImage(Image image, int size, int channels) {
  // The fewer channels the cheaper the resampling.
  if (channels < image.channels) image = ConvertChannels(std::move(image), channels);
  return ConvertChannels(Resize(std::move(image), size, size), channels);
}

}  // namespace myriad
