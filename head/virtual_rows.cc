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
constexpr uint32_t kElementStride = 0x9e3779b9u;

// A 32-bit mix of (key, element): the two rounds of Chris Wellons' lowbias32 search results, with the upper half of the key joining
// between them, so that two rows whose lower halves happen to be near each other share no run of elements. 32-bit lanes: it vectorises.
MYRIAD_SIMD_CLONES
void FillUniform(uint32_t low_key, uint32_t high_key, float scale, int dim, float* out) {
  for (int d = 0; d < dim; ++d) {
    uint32_t x = low_key + kElementStride * static_cast<uint32_t>(d);
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

// The numbers of one row, before they are rounded.
class VirtualNumbers {
 public:
  VirtualNumbers(const HeadSpec& head, int64_t class_id)
      : key_(StreamKey(head.seed, kVirtualRowPurpose, static_cast<uint64_t>(class_id))),
        // int32 in [-2^31, 2^31) to +-deviation*sqrt(3). One rounding in float32, the same everywhere.
        scale_(static_cast<float>(head.initial_deviation * std::sqrt(3.0) / 2147483648.0)) {}
  // Elements [begin, begin + count).
  void Fill(int begin, int count, float* out) const {
    FillUniform(static_cast<uint32_t>(key_) + kElementStride * static_cast<uint32_t>(begin), static_cast<uint32_t>(key_ >> 32), scale_,
                count, out);
  }

 private:
  const uint64_t key_;
  const float scale_;
};

// Elements that are rounded at a time.
constexpr int kBlock = 512;

}  // namespace

void StoreVirtualRow(const HeadSpec& head, int64_t class_id, std::byte* stored) {
  const VirtualNumbers numbers(head, class_id);
  if (head.weight_dtype == DataType::kFloat32) return numbers.Fill(0, head.embedding_dim, reinterpret_cast<float*>(stored));
  float block[kBlock];
  for (int begin = 0; begin < head.embedding_dim; begin += kBlock) {
    const int count = std::min(kBlock, head.embedding_dim - begin);
    numbers.Fill(begin, count, block);
    StoreNearest(head.weight_dtype, block, count, stored + begin * BytesOf(head.weight_dtype));
  }
}

void FillVirtualRow(const HeadSpec& head, int64_t class_id, float* out) {
  const VirtualNumbers numbers(head, class_id);
  numbers.Fill(0, head.embedding_dim, out);
  if (head.weight_dtype == DataType::kFloat32) return;
  std::byte stored[kBlock * sizeof(float)];
  for (int begin = 0; begin < head.embedding_dim; begin += kBlock) {
    const int count = std::min(kBlock, head.embedding_dim - begin);
    StoreNearest(head.weight_dtype, out + begin, count, stored);
    Widen(head.weight_dtype, stored, count, out + begin);
  }
}

}  // namespace myriad
