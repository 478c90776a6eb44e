#include "head/row_kernels.h"

#include <cmath>
#include <cstring>

#include "head/simd.h"

// Compiled with -fassociative-math so that sums vectorise; infinities and NaNs keep their meaning.

// Into each clone of its callers, to be compiled for that clone's machine.
#define MYRIAD_INLINE inline __attribute__((always_inline))

namespace myriad {
namespace {

MYRIAD_SIMD_CLONES
double SumOfSquares(const float* __restrict x, int dim) {
  double sum = 0.0;
  for (int d = 0; d < dim; ++d) sum += static_cast<double>(x[d]) * x[d];
  return sum;
}

// A factor rounded to float would make all elements, and with them all cosines of the row, too large or too small alike; elements rounded
// one by one err independently.
MYRIAD_SIMD_CLONES
void ScaleDouble(double factor, const float* __restrict x, int dim, float* __restrict out) {
  for (int d = 0; d < dim; ++d) out[d] = static_cast<float>(factor * x[d]);
}

// Where the gradient of element d, whose weight is w, comes from.
struct PlainGradient {
  const float* __restrict gradient;
  MYRIAD_INLINE float operator()(int d, float) const { return gradient[d]; }
};
// g = (h - (h . u) u) / |w| with u = w / |w|. A degenerate row has 0 for 1/|w|, so g = 0.
struct ProjectedGradient {
  const float* __restrict gradient;
  float along;
  float inverse_norm;
  MYRIAD_INLINE float operator()(int d, float w) const { return (gradient[d] - along * w) * inverse_norm; }
};
MYRIAD_INLINE ProjectedGradient Project(const float* __restrict gradient, float inverse_norm, int dim, const float* __restrict weights) {
  float dot = 0.0f;
  for (int d = 0; d < dim; ++d) dot += gradient[d] * weights[d];
  return {gradient, dot * inverse_norm * inverse_norm, inverse_norm};
}

template <typename Gradient>
MYRIAD_INLINE void Move(const SgdStep& step, Gradient gradient, int dim, float* __restrict weights, float* __restrict velocity) {
  const SgdStep s = step;
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d];
    const float v = s.momentum * velocity[d] + (gradient(d, w) + s.coupled_decay * w);
    velocity[d] = v;
    weights[d] = w - s.rate * (v + s.decoupled_decay * w);
  }
}

template <typename Gradient>
MYRIAD_INLINE void Move(const AdamWStep& step, Gradient gradient, int dim, float* __restrict weights, float* __restrict slots) {
  const AdamWStep s = step;
  float* __restrict first = slots;
  float* __restrict second = slots + dim;
  // Past 2^24 updates the count stays; both corrections have long been 1.
  const float count = slots[2 * dim] + 1.0f;
  slots[2 * dim] = count;
  const float rate = static_cast<float>(s.rate / (1.0 - std::pow(s.beta1, count)));
  const float correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(s.beta2, count)));
  const float beta1 = static_cast<float>(s.beta1), new_first = static_cast<float>(1.0 - s.beta1);
  const float beta2 = static_cast<float>(s.beta2), new_second = static_cast<float>(1.0 - s.beta2);
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d];
    const float g = gradient(d, w);
    const float m = beta1 * first[d] + new_first * g;
    const float v = beta2 * second[d] + new_second * g * g;
    first[d] = m;
    second[d] = v;
    weights[d] = s.kept * w - rate * m / (std::sqrt(v) * correction + s.epsilon);
  }
}

template <typename Gradient>
MYRIAD_INLINE void Move(const AdagradStep& step, Gradient gradient, int dim, float* __restrict weights, float* __restrict squares) {
  const AdagradStep s = step;
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d];
    const float h = gradient(d, w) + s.decay * w;
    const float a = squares[d] + h * h;
    squares[d] = a;
    weights[d] = w - s.rate * h / (std::sqrt(a) + s.epsilon);
  }
}

}  // namespace

MYRIAD_SIMD_CLONES
double Dot(const float* __restrict a, const float* __restrict b, int dim) {
  double sum = 0.0;
  for (int d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * b[d];
  return sum;
}

MYRIAD_SIMD_CLONES
void AddScaled(float factor, const float* __restrict x, int dim, float* __restrict y) {
  for (int d = 0; d < dim; ++d) y[d] += factor * x[d];
}

MYRIAD_SIMD_CLONES
void Scale(float factor, const float* __restrict x, int dim, float* __restrict out) {
  for (int d = 0; d < dim; ++d) out[d] = factor * x[d];
}

NormalizedRow NormalizeRow(const float* row, int dim, float* unit) {
  // In double no finite float overflows or vanishes, so the sum is finite exactly if all elements are.
  const double sum = SumOfSquares(row, dim);
  const bool finite = std::isfinite(sum);
  if (!finite || sum < kMinNorm * kMinNorm) {
    std::memset(unit, 0, sizeof(float) * dim);
    return {0.0f, finite};
  }
  const double inverse_norm = 1.0 / std::sqrt(sum);
  ScaleDouble(inverse_norm, row, dim, unit);
  return {static_cast<float>(inverse_norm), true};
}

MYRIAD_SIMD_CLONES
void ProjectRow(const float* __restrict unit, float inverse_norm, int dim, float* __restrict gradient) {
  float dot = 0.0f;
  for (int d = 0; d < dim; ++d) dot += gradient[d] * unit[d];
  for (int d = 0; d < dim; ++d) gradient[d] = (gradient[d] - dot * unit[d]) * inverse_norm;
}

MYRIAD_SIMD_CLONES
void UpdateRow(const SgdStep& step, const float* __restrict gradient, int dim, float* __restrict weights, float* __restrict slots) {
  Move(step, PlainGradient{gradient}, dim, weights, slots);
}

MYRIAD_SIMD_CLONES
void UpdateRow(const AdamWStep& step, const float* __restrict gradient, int dim, float* __restrict weights, float* __restrict slots) {
  Move(step, PlainGradient{gradient}, dim, weights, slots);
}

MYRIAD_SIMD_CLONES
void UpdateRow(const AdagradStep& step, const float* __restrict gradient, int dim, float* __restrict weights, float* __restrict slots) {
  Move(step, PlainGradient{gradient}, dim, weights, slots);
}

MYRIAD_SIMD_CLONES
void MapRow(const RowMap& map, int dim, float* __restrict weights, float* __restrict velocity) {
  const float ww = static_cast<float>(map.ww), wv = static_cast<float>(map.wv);
  const float vw = static_cast<float>(map.vw), vv = static_cast<float>(map.vv);
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d], v = velocity[d];
    weights[d] = ww * w + wv * v;
    velocity[d] = vw * w + vv * v;
  }
}

MYRIAD_SIMD_CLONES
void ProjectAndUpdateRow(const SgdStep& step, const float* __restrict gradient, float inverse_norm, int dim, float* __restrict weights,
                         float* __restrict slots) {
  Move(step, Project(gradient, inverse_norm, dim, weights), dim, weights, slots);
}

MYRIAD_SIMD_CLONES
void ProjectAndUpdateRow(const AdamWStep& step, const float* __restrict gradient, float inverse_norm, int dim, float* __restrict weights,
                         float* __restrict slots) {
  Move(step, Project(gradient, inverse_norm, dim, weights), dim, weights, slots);
}

MYRIAD_SIMD_CLONES
void ProjectAndUpdateRow(const AdagradStep& step, const float* __restrict gradient, float inverse_norm, int dim, float* __restrict weights,
                         float* __restrict slots) {
  Move(step, Project(gradient, inverse_norm, dim, weights), dim, weights, slots);
}

}  // namespace myriad
