#include "head/stored_numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <c10/util/Half.h>

#include "head/counter_random.h"
#include "head/simd.h"

namespace myriad {
namespace {

constexpr uint32_t kSignBit = 0x80000000u;
constexpr uint32_t kInfinityBits = 0x7f800000u;
// With 16 random bits added such a magnitude is below infinity's still.
constexpr uint32_t kLargestSmall = kInfinityBits - 0x10000u;
// Random bits that one Mix64 gives, and how many numbers share it.
constexpr int kNumbersPerDraw = 4;

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// `add` in [0, 2^16): what is added below the bits that stay, before they are cut.
inline uint16_t CutToBFloat16(uint32_t bits, uint32_t add) {
  const uint32_t magnitude = bits & ~kSignBit;
  const uint32_t rounded = (bits + add) >> 16;
  // Infinity as it is; NaN without the bits below, which might be all it had; a finite number does not become infinite.
  const uint32_t special = (bits >> 16) | (magnitude > kInfinityBits ? 0x40u : 0u);
  const uint32_t largest = (bits & kSignBit) >> 16 | 0x7f7fu;
  const bool overflows = (rounded & 0x7fffu) >= 0x7f80u;
  return static_cast<uint16_t>(magnitude >= kInfinityBits ? special : overflows ? largest : rounded);
}

MYRIAD_SIMD_CLONES
void WidenBFloat16(const uint16_t* __restrict stored, int64_t count, uint32_t* __restrict out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint32_t>(stored[i]) << 16;
}

MYRIAD_SIMD_CLONES
void NearestBFloat16(const uint32_t* __restrict bits, int64_t count, uint16_t* __restrict stored) {
  for (int64_t i = 0; i < count; ++i) stored[i] = CutToBFloat16(bits[i], 0x7fffu + (bits[i] >> 16 & 1));
}

// The same for numbers that no such sum takes to infinity: a look at all of them and this loop cost half of the one above.
MYRIAD_SIMD_CLONES
void NearestSmallBFloat16(const uint32_t* __restrict bits, int64_t count, uint16_t* __restrict stored) {
  for (int64_t i = 0; i < count; ++i) stored[i] = static_cast<uint16_t>((bits[i] + 0x7fffu + (bits[i] >> 16 & 1)) >> 16);
}

// Four numbers take the four quarters of a draw.
MYRIAD_SIMD_CLONES
void DrawBits(uint64_t key, int64_t draws, uint64_t* __restrict out) {
  for (int64_t i = 0; i < draws; ++i) out[i] = Mix64(key + 0x9e3779b97f4a7c15u * static_cast<uint64_t>(i + 1));
}

MYRIAD_SIMD_CLONES
uint32_t LargestMagnitude(const uint32_t* bits, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, bits[i] & ~kSignBit);
  return largest;
}

MYRIAD_SIMD_CLONES
void StochasticBFloat16(const uint32_t* __restrict bits, const uint16_t* __restrict random, int64_t count, uint16_t* __restrict stored) {
  for (int64_t i = 0; i < count; ++i) stored[i] = CutToBFloat16(bits[i], random[i]);
}

// As NearestSmallBFloat16().
MYRIAD_SIMD_CLONES
void StochasticSmallBFloat16(const uint32_t* __restrict bits, const uint16_t* __restrict random, int64_t count,
                             uint16_t* __restrict stored) {
  for (int64_t i = 0; i < count; ++i) stored[i] = static_cast<uint16_t>((bits[i] + random[i]) >> 16);
}

// |value| in units of the last place of a half that holds it, cut after adding `fraction` of a unit in [0, 1).
uint16_t CutToHalf(float value, float fraction) {
  const uint16_t sign = static_cast<uint16_t>((BitsOf(value) & kSignBit) >> 16);
  if (!std::isfinite(value)) return sign | (std::isnan(value) ? 0x7e00 : 0x7c00);
  const float magnitude = std::fabs(value);
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // Normal halves have 11 bits; below 2^-14 the unit stays 2^-24.
  const int unit = std::max(exponent - 11, -24);
  // In double: the sum of a float32's 24 bits and the fraction's 16 is exact.
  const float cut = static_cast<float>(std::ldexp(std::floor(std::ldexp(static_cast<double>(magnitude), -unit) + fraction), unit));
  return sign | (cut > 65504.0f ? uint16_t{0x7bff} : c10::Half(cut).x);
}

// Exactly half a unit goes to the even neighbour: c10::Half does that for what fits.
uint16_t NearestHalf(float value) {
  if (std::isfinite(value) && std::fabs(value) > 65504.0f) return CutToHalf(value, 0.0f);
  return c10::Half(value).x;
}

}  // namespace

int64_t BytesOf(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

void Widen(DataType type, const std::byte* stored, int64_t count, float* out) {
  if (type == DataType::kFloat32) {
    std::memcpy(out, stored, count * sizeof(float));
  } else if (type == DataType::kBFloat16) {
    WidenBFloat16(reinterpret_cast<const uint16_t*>(stored), count, reinterpret_cast<uint32_t*>(out));
  } else {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = static_cast<float>(c10::Half(reinterpret_cast<const uint16_t*>(stored)[i], c10::Half::from_bits()));
    }
  }
}

void StoreNearest(DataType type, const float* values, int64_t count, std::byte* stored) {
  if (type == DataType::kFloat32) {
    std::memcpy(stored, values, count * sizeof(float));
  } else if (type == DataType::kBFloat16) {
    const uint32_t* const bits = reinterpret_cast<const uint32_t*>(values);
    const bool small = LargestMagnitude(bits, count) <= kLargestSmall;
    (small ? NearestSmallBFloat16 : NearestBFloat16)(bits, count, reinterpret_cast<uint16_t*>(stored));
  } else {
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<uint16_t*>(stored)[i] = NearestHalf(values[i]);
  }
}

void StoreStochastically(DataType type, uint64_t key, const float* values, int64_t count, std::byte* stored) {
  if (type == DataType::kFloat32) {
    std::memcpy(stored, values, count * sizeof(float));
    return;
  }
  constexpr int64_t kBlock = 256;
  uint64_t draws[kBlock / kNumbersPerDraw];
  uint16_t random[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    const int64_t draw_count = (size + kNumbersPerDraw - 1) / kNumbersPerDraw;
    DrawBits(key + static_cast<uint64_t>(begin), draw_count, draws);
    std::memcpy(random, draws, draw_count * sizeof(uint64_t));
    uint16_t* out = reinterpret_cast<uint16_t*>(stored) + begin;
    if (type == DataType::kBFloat16) {
      const uint32_t* const bits = reinterpret_cast<const uint32_t*>(values + begin);
      const bool small = LargestMagnitude(bits, size) <= kLargestSmall;
      (small ? StochasticSmallBFloat16 : StochasticBFloat16)(bits, random, size, out);
    } else {
      for (int64_t i = 0; i < size; ++i) out[i] = CutToHalf(values[begin + i], static_cast<float>(random[i]) * 0x1p-16f);
    }
  }
}

}  // namespace myriad
