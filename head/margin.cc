#include "head/margin.h"

#include <algorithm>
#include <cmath>

namespace myriad {

TargetLogit ApplyMargin(const MarginOptions& margin, double cosine) {
  const double s = margin.scale;
  const double m = margin.margin;
  switch (margin.kind) {
    case MarginOptions::Kind::kCosFace: break;
    case MarginOptions::Kind::kArcFace: {
      if (cosine <= -std::cos(m)) return {s * (cosine - m * std::sin(m)), s};
      constexpr double kFloor = 1e-6;
      const double sine_squared = 1.0 - cosine * cosine;
      const double sine = std::sqrt(std::max(sine_squared, kFloor));
      const double slope = sine_squared > kFloor ? cosine * std::sin(m) / sine : 0.0;
      return {s * (cosine * std::cos(m) - sine * std::sin(m)), s * (std::cos(m) + slope)};
    }
    case MarginOptions::Kind::kArcFaceStraightThrough: {
      const double c = std::clamp(cosine, -1.0, 1.0);
      return {s * std::cos(std::acos(c) + m), s};
    }
  }
  return {s * (cosine - m), s};
}

}  // namespace myriad
