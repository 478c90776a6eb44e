#include "head/virtual_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "head/counter_random.h"
#include "head/simd.h"
#include "head/stored_numbers.h"

namespace myriad {
namespace {

constexpr uint64_t kVirtualRowPurpose = 32;

// A 32-bit mix of (key, element): the two rounds of Chris Wellons' lowbias32 search results, with the upper half of the key joining
// between them, so that two rows whose lower halves happen to be near each other share no run of elements. 32-bit lanes: it vectorises.
MYRIAD_SIMD_CLONES
void FillUniform(uint32_t low_key, uint32_t high_key, float scale, int dim, float* out) {
  for (int d = 0; d < dim; ++d) {
    uint32_t x = low_key + 0x9e3779b9u * static_cast<uint32_t>(d);
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x += high_key;
    x *= 0x735a2d97u;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 16;
    out[d] = static_cast<float>(static_cast<int32_t>(x)) * scale;
  }
}

}  // namespace

void FillVirtualRow(const HeadSpec& head, int64_t class_id, float* out) {
  const uint64_t key = StreamKey(head.seed, kVirtualRowPurpose, static_cast<uint64_t>(class_id));
  // int32 in [-2^31, 2^31) to +-deviation*sqrt(3). One rounding in float32, the same everywhere.
  const float scale = static_cast<float>(head.initial_deviation * std::sqrt(3.0) / 2147483648.0);
  FillUniform(static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), scale, head.embedding_dim, out);
  if (head.weight_dtype == DataType::kFloat32) return;
  // Rounded in place, a block at a time.
  std::byte stored[1 << 10];
  constexpr int64_t kBlock = sizeof(stored) / 2;
  for (int64_t begin = 0; begin < head.embedding_dim; begin += kBlock) {
    const int64_t size = std::min<int64_t>(kBlock, head.embedding_dim - begin);
    StoreNearest(head.weight_dtype, out + begin, size, stored);
    Widen(head.weight_dtype, stored, size, out + begin);
  }
}

}  // namespace myriad
