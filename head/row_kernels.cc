#include "head/row_kernels.h"

#include <cmath>
#include <cstring>

#include "head/simd.h"

// Compiled with -fassociative-math so that sums vectorise; infinities and NaNs keep their meaning.
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
void SgdRow(const SgdStep& step, const float* __restrict gradient, int dim, float* __restrict weights, float* __restrict velocity) {
  const SgdStep s = step;
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d];
    const float v = s.momentum * velocity[d] + (gradient[d] + s.coupled_decay * w);
    velocity[d] = v;
    weights[d] = w - s.rate * (v + s.decoupled_decay * w);
  }
}

MYRIAD_SIMD_CLONES
void ProjectAndSgdRow(const SgdStep& step, const float* __restrict gradient, float inverse_norm, int dim, float* __restrict weights,
                      float* __restrict velocity) {
  const SgdStep s = step;
  float dot = 0.0f;
  for (int d = 0; d < dim; ++d) dot += gradient[d] * weights[d];
  // g = (h - (h . u) u) / |w| with u = w / |w|. A degenerate row has 0 for 1/|w|, so g = 0.
  const float along = dot * inverse_norm * inverse_norm;
  for (int d = 0; d < dim; ++d) {
    const float w = weights[d];
    const float g = (gradient[d] - along * w) * inverse_norm;
    const float v = s.momentum * velocity[d] + (g + s.coupled_decay * w);
    velocity[d] = v;
    weights[d] = w - s.rate * (v + s.decoupled_decay * w);
  }
}

}  // namespace myriad
