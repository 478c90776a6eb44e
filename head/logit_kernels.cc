#include "head/logit_kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "head/simd.h"

namespace myriad {
namespace {

// Samples handled at a time: their running values stay in registers and the first-level cache.
constexpr int64_t kStrip = 256;
// Rows whose exponentials are added in float before the sum goes on in double: their rounding stays below 32 * 2^-24.
constexpr int64_t kFloatRows = 32;

// exp(x) for x <= 80: x = n ln 2 + r with |r| <= ln(2)/2 (n by the rounding of a large addition, ln 2 in two parts so that n ln 2 is
// exact), a polynomial in r with the coefficients of Cephes' expf, and 2^n into the exponent bits. 0 below -87.3, for -inf too.
inline float Exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23
  const float t = x * 1.44269504088896341f + kRound;
  const float n = t - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  uint32_t bits, shift;
  std::memcpy(&bits, &p, sizeof(bits));
  std::memcpy(&shift, &t, sizeof(shift));
  bits += shift << 23;
  std::memcpy(&p, &bits, sizeof(bits));
  return x < -87.3f ? 0.0f : p;
}

}  // namespace

MYRIAD_SIMD_CLONES
void RaiseMaxLogits(const float* __restrict cosines, int64_t rows, int64_t batch, float scale, float* __restrict max_logit) {
  float highest[kStrip];
  for (int64_t first = 0; first < batch; first += kStrip) {
    const int64_t width = std::min(kStrip, batch - first);
    for (int64_t i = 0; i < width; ++i) highest[i] = -std::numeric_limits<float>::infinity();
    for (int64_t row = 0; row < rows; ++row) {
      const float* c = cosines + row * batch + first;
      for (int64_t i = 0; i < width; ++i) highest[i] = c[i] > highest[i] ? c[i] : highest[i];
    }
    for (int64_t i = 0; i < width; ++i) {
      const float logit = scale * highest[i];
      if (logit > max_logit[first + i]) max_logit[first + i] = logit;
    }
  }
}

MYRIAD_SIMD_CLONES
void Exponentiate(float* __restrict cosines, int64_t rows, int64_t batch, float scale, const float* __restrict max_logit,
                  double* __restrict sum_exp) {
  float reference[kStrip];
  float sum[kStrip];
  for (int64_t first = 0; first < batch; first += kStrip) {
    const int64_t width = std::min(kStrip, batch - first);
    for (int64_t i = 0; i < width; ++i) {
      const float m = max_logit[first + i];
      reference[i] = m == -std::numeric_limits<float>::infinity() ? 0.0f : m;  // -inf - -inf would be NaN.
    }
    for (int64_t begin = 0; begin < rows; begin += kFloatRows) {
      const int64_t end = std::min(rows, begin + kFloatRows);
      for (int64_t i = 0; i < width; ++i) sum[i] = 0.0f;
      for (int64_t row = begin; row < end; ++row) {
        float* c = cosines + row * batch + first;
        for (int64_t i = 0; i < width; ++i) {
          const float e = Exp(scale * c[i] - reference[i]);
          c[i] = e;
          sum[i] += e;
        }
      }
      for (int64_t i = 0; i < width; ++i) sum_exp[first + i] += sum[i];
    }
  }
}

}  // namespace myriad
