#include "worker/data/augmentation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "worker/data/random.h"

namespace myriad {
namespace {

constexpr double kPi = 3.14159265358979323846;

// What was drawn for one image. Everything is drawn whatever is switched on, so that one change does not shift the others' numbers.
struct Draw {
  bool flip;
  double shift_x, shift_y;  // Parts of the side.
  double angle;             // Radians.
  double scale;             // 1: as it is; 2: twice as large.
  double brightness;        // Factors; 1: as it is.
  double contrast;
  bool erase;
  double erase_area, erase_ratio, erase_x, erase_y;
};

Draw DrawChanges(const AugmentationOptions& options, uint64_t key) {
  KeyedRandom random(key);
  Draw draw;
  draw.flip = random.Unit() < options.flip_probability;
  draw.shift_x = random.Symmetric(options.max_shift);
  draw.shift_y = random.Symmetric(options.max_shift);
  draw.angle = random.Symmetric(options.max_rotation_degrees) * kPi / 180;
  draw.scale = 1 + random.Symmetric(options.max_scale_change);
  draw.brightness = 1 + random.Symmetric(options.max_brightness_change);
  draw.contrast = 1 + random.Symmetric(options.max_contrast_change);
  draw.erase = random.Unit() < options.erase_probability;
  draw.erase_area = 0.02 + 0.23 * random.Unit();
  draw.erase_ratio = std::exp2(2 * random.Unit() - 1);
  draw.erase_x = random.Unit();
  draw.erase_y = random.Unit();
  return draw;
}

// Pixel places in fixed point: 16 bits behind the point.
constexpr int kPointBits = 16;
int64_t ToFixed(double value) { return static_cast<int64_t>(std::llround(value * (1 << kPointBits))); }

// The bilinear pass: output pixel (x, y) shows the input at (u0 + x*ux + y*uy, v0 + x*vx + y*vy), clamped to the image.
template <int kChannels>
void Warp(int size, const std::array<int64_t, 6>& place, const uint8_t* in, uint8_t* out) {
  const auto [u0, ux, uy, v0, vx, vy] = place;
  const int64_t last = int64_t{size - 1} << kPointBits;
  const int64_t stride = int64_t{size} * kChannels;
  for (int y = 0; y < size; ++y) {
    int64_t u = u0 + y * uy;
    int64_t v = v0 + y * vy;
    for (int x = 0; x < size; ++x, u += ux, v += vx) {
      const int64_t cu = std::clamp<int64_t>(u, 0, last);
      const int64_t cv = std::clamp<int64_t>(v, 0, last);
      const int64_t column = cu >> kPointBits;
      const int64_t row = cv >> kPointBits;
      const int fx = (cu >> (kPointBits - 8)) & 255;
      const int fy = (cv >> (kPointBits - 8)) & 255;
      const uint8_t* a = in + row * stride + column * kChannels;
      const uint8_t* b = a + (cu < last ? kChannels : 0);
      const int64_t down = cv < last ? stride : 0;
      for (int c = 0; c < kChannels; ++c) {
        const int top = a[c] * (256 - fx) + b[c] * fx;
        const int bottom = a[down + c] * (256 - fx) + b[down + c] * fx;
        *out++ = static_cast<uint8_t>((top * (256 - fy) + bottom * fy + (1 << 15)) >> 16);
      }
    }
  }
}

std::array<int64_t, 6> InversePlace(const Draw& draw, int size) {
  // Output = center + shift + scale * R(angle) * flip * (input - center); solved for the input.
  const double center = (size - 1) / 2.0;
  const double sign = draw.flip ? -1 : 1;
  const double c = std::cos(draw.angle) / draw.scale;
  const double s = std::sin(draw.angle) / draw.scale;
  const double ux = sign * c, uy = sign * s, vx = -s, vy = c;
  const double from_x = center + draw.shift_x * size;
  const double from_y = center + draw.shift_y * size;
  return {ToFixed(center - ux * from_x - uy * from_y), ToFixed(ux), ToFixed(uy),
          ToFixed(center - vx * from_x - vy * from_y), ToFixed(vx), ToFixed(vy)};
}

double Mean(const uint8_t* pixels, int64_t count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += pixels[i];
  return static_cast<double>(sum) / count;
}

void ChangeTones(const Draw& draw, int64_t count, uint8_t* pixels) {
  const double mean = Mean(pixels, count);
  std::array<uint8_t, 256> tones;
  for (int v = 0; v < 256; ++v) {
    const double value = ((v - mean) * draw.contrast + mean) * draw.brightness;
    tones[v] = static_cast<uint8_t>(std::clamp(value + 0.5, 0.0, 255.0));
  }
  for (int64_t i = 0; i < count; ++i) pixels[i] = tones[pixels[i]];
}

void Erase(const Draw& draw, int size, int channels, uint8_t* pixels) {
  const int width = std::clamp(static_cast<int>(std::lround(size * std::sqrt(draw.erase_area * draw.erase_ratio))), 1, size);
  const int height = std::clamp(static_cast<int>(std::lround(size * std::sqrt(draw.erase_area / draw.erase_ratio))), 1, size);
  const int left = static_cast<int>(draw.erase_x * (size - width + 1));
  const int top = static_cast<int>(draw.erase_y * (size - height + 1));
  const uint8_t mean = static_cast<uint8_t>(Mean(pixels, int64_t{size} * size * channels) + 0.5);
  for (int y = top; y < top + height; ++y) std::memset(pixels + (int64_t{y} * size + left) * channels, mean, int64_t{width} * channels);
}

}  // namespace

absl::Status ValidateAugmentation(const AugmentationOptions& options) {
  struct Field {
    const char* name;
    double value, high;
  };
  const Field fields[] = {
      {"flip_probability", options.flip_probability, 1},           {"max_shift", options.max_shift, 0.5},
      {"max_rotation_degrees", options.max_rotation_degrees, 180}, {"max_scale_change", options.max_scale_change, 0.9},
      {"max_brightness_change", options.max_brightness_change, 1}, {"max_contrast_change", options.max_contrast_change, 1},
      {"erase_probability", options.erase_probability, 1}};
  for (const Field& field : fields) {
    // Not (a <= x && x <= b) also catches NaN.
    if (!(field.value >= 0 && field.value <= field.high)) {
      return absl::InvalidArgumentError(
          absl::StrCat("augmentation.", field.name, " is ", field.value, "; a number in [0, ", field.high, "] is needed"));
    }
  }
  return absl::OkStatus();
}

void Augment(const AugmentationOptions& options, uint64_t key, int size, int channels, const uint8_t* in, uint8_t* out) {
  const Draw draw = DrawChanges(options, key);
  const int64_t count = int64_t{size} * size * channels;
  if (draw.flip || draw.shift_x != 0 || draw.shift_y != 0 || draw.angle != 0 || draw.scale != 1) {
    const std::array<int64_t, 6> place = InversePlace(draw, size);
    channels == 1 ? Warp<1>(size, place, in, out) : Warp<3>(size, place, in, out);
  } else {
    std::memcpy(out, in, count);
  }
  if (draw.brightness != 1 || draw.contrast != 1) ChangeTones(draw, count, out);
  if (draw.erase) Erase(draw, size, channels, out);
}

}  // namespace myriad
