#include "worker/data/glyph_picture.h"

#include <algorithm>
#include <cmath>

#include "worker/data/random.h"

namespace myriad {
namespace {

// The em is this part of the picture's side.
constexpr double kEm = 0.8;

// Largest distortions, each drawn uniformly.
constexpr double kHalfTurn = 0.0524;                       // Tangent of half the turn: 6 degrees.
constexpr double kSlant = 0.15;                            // Sideways per height.
constexpr double kStretch = 0.094;                         // Of width and height, each on its own.
constexpr double kMove = 0.05;                             // Of the side.
constexpr double kBolder = 0.007;                          // Of the side.
constexpr double kPaper = 60;                              // Below white.
constexpr double kInk = 70;                                // Above black.
constexpr double kRampStart = 32, kRampStartChange = 20;   // Coverage where paper turns to ink, of 255,
constexpr double kRampWidth = 159, kRampWidthChange = 45;  // and over how much.
constexpr double kGrain = 0.08;                            // Part of noise in the picture.

// Deviation of the blur in pixels at a side of 112; a little more comes from the width of a pixel.
constexpr double kBlurLow = 0.4, kBlurHigh = 1.1, kBlurSide = 112;
constexpr double kPixelVariance = 0.2;

// A factor in [1/(1+range), 1+range], as likely above 1 as below.
double Stretch(KeyedRandom& random, double range) {
  const double u = random.Symmetric(range);
  return u >= 0 ? 1 + u : 1 / (1 - u);
}

GlyphPlacement DrawPlacement(KeyedRandom& random, int size) {
  // Cosine and sine from the half angle's tangent: exact arithmetic, no library function that may differ between machines.
  const double t = random.Symmetric(kHalfTurn);
  const double cosine = (1 - t * t) / (1 + t * t);
  const double sine = 2 * t / (1 + t * t);
  const double slant = random.Symmetric(kSlant);
  const double sx = Stretch(random, kStretch);
  const double sy = Stretch(random, kStretch);
  GlyphPlacement placement;
  placement.em_pixels = static_cast<int>(std::lround(kEm * size));
  // Rotation x slant x stretch.
  placement.xx = cosine * sx;
  placement.xy = (cosine * slant - sine) * sy;
  placement.yx = sine * sx;
  placement.yy = (sine * slant + cosine) * sy;
  placement.bolder = random.Symmetric(kBolder);
  placement.center_x = 0.5 + random.Symmetric(kMove);
  placement.center_y = 0.5 + random.Symmetric(kMove);
  return placement;
}

}  // namespace

GlyphPainter::GlyphPainter(int size) : size_(size), coverage_(size * size), values_(size * size), line_(size + 2) {}

// A Gaussian of `variance` square pixels as repeated [w, 1-2w, w] in both directions, which has variance 2w.
void GlyphPainter::Blur(double variance) {
  constexpr int kOne = 1024;
  const int passes = std::max(1, static_cast<int>(std::ceil(variance / 0.5)));
  const uint32_t side = static_cast<uint32_t>(std::lround(variance / passes / 2 * kOne));
  const uint32_t middle = kOne - 2 * side;
  const auto blur_line = [&](uint16_t* data, int step) {
    for (int i = 0; i < size_; ++i) line_[i + 1] = data[i * step];
    line_[0] = line_[1];
    line_[size_ + 1] = line_[size_];
    for (int i = 0; i < size_; ++i) {
      data[i * step] = static_cast<uint16_t>((side * (line_[i] + line_[i + 2]) + middle * line_[i + 1] + kOne / 2) / kOne);
    }
  };
  for (int p = 0; p < passes; ++p) {
    for (int y = 0; y < size_; ++y) blur_line(&values_[y * size_], 1);
    for (int x = 0; x < size_; ++x) blur_line(&values_[x], size_);
  }
}

bool GlyphPainter::Paint(FontFace* face, uint32_t character, uint64_t key, uint8_t* out) {
  KeyedRandom random(key);
  const GlyphPlacement placement = DrawPlacement(random, size_);
  if (!face->Draw(character, placement, size_, coverage_.data())) return false;
  for (size_t i = 0; i < coverage_.size(); ++i) values_[i] = static_cast<uint16_t>(coverage_[i] * 256);
  const double deviation = (kBlurLow + (kBlurHigh - kBlurLow) * random.Unit()) * size_ / kBlurSide;
  Blur(deviation * deviation + kPixelVariance);

  const double start = kRampStart + random.Symmetric(kRampStartChange);
  const double width = kRampWidth + random.Symmetric(kRampWidthChange);
  const double paper = 255 - kPaper * random.Unit();
  const double ink = kInk * random.Unit();
  const uint32_t grain = static_cast<uint32_t>(std::lround(kGrain * random.Unit() * 65536));
  uint8_t tones[256];
  for (int v = 0; v < 256; ++v) tones[v] = static_cast<uint8_t>(paper + (ink - paper) * std::clamp((v - start) / width, 0.0, 1.0) + 0.5);
  uint64_t noise = 0;
  for (size_t i = 0; i < values_.size(); ++i) {
    noise = i % 8 == 0 ? random.Next() : noise >> 8;
    const uint32_t tone = tones[values_[i] >> 8];
    out[i] = static_cast<uint8_t>((tone * (65536 - grain) + static_cast<uint32_t>(noise & 255) * grain + 32768) >> 16);
  }
  return true;
}

}  // namespace myriad
