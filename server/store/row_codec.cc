#include "server/store/row_codec.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>

#include "head/counter_random.h"
#include "head/stored_numbers.h"
#include "head/virtual_rows.h"

namespace myriad {
namespace {

// Of StreamKey(): apart from virtual rows, partitions and draws.
constexpr uint64_t kRoundingPurpose = 0x726f756e64;

}  // namespace

RowCodec::RowCodec(const HeadSpec& head)
    : head_(head),
      slot_count_(int64_t{head.embedding_dim} * head.slots_per_row),
      weight_bytes_(head.embedding_dim * BytesOf(head.weight_dtype)),
      record_bytes_(weight_bytes_ + slot_count_ * BytesOf(head.slot_dtype)),
      in_place_(head.weight_dtype == DataType::kFloat32 && head.slot_dtype == DataType::kFloat32) {}

void RowCodec::Decode(const std::byte* record, float* weights, float* slots) const {
  Widen(head_.weight_dtype, record, head_.embedding_dim, weights);
  if (slots != nullptr) Widen(head_.slot_dtype, record + weight_bytes_, slot_count_, slots);
}

void RowCodec::EncodeStep(int64_t step, int64_t class_id, const float* weights, const float* slots, std::byte* record) const {
  const uint64_t key = StreamKey(head_.seed, kRoundingPurpose, static_cast<uint64_t>(step), static_cast<uint64_t>(class_id));
  StoreStochastically(head_.weight_dtype, key, weights, head_.embedding_dim, record);
  // Slots draw from a stream of their own.
  StoreStochastically(head_.slot_dtype, ~key, slots, slot_count_, record + weight_bytes_);
}

void RowCodec::EncodeNearest(const float* weights, const float* slots, std::byte* record) const {
  StoreNearest(head_.weight_dtype, weights, head_.embedding_dim, record);
  if (slots != nullptr) {
    StoreNearest(head_.slot_dtype, slots, slot_count_, record + weight_bytes_);
  } else {
    std::memset(record + weight_bytes_, 0, record_bytes_ - weight_bytes_);
  }
}

void RowCodec::EncodeVirtual(int64_t class_id, std::byte* record) const {
  if (head_.weight_dtype == DataType::kFloat32) {
    FillVirtualRow(head_, class_id, reinterpret_cast<float*>(record));
    std::memset(record + weight_bytes_, 0, record_bytes_ - weight_bytes_);
    return;
  }
  float weights[1 << 10];
  // A row longer than the buffer is made whole: its numbers follow from one stream.
  std::unique_ptr<float[]> long_row;
  float* row = weights;
  if (head_.embedding_dim > static_cast<int>(std::size(weights))) {
    long_row = std::make_unique<float[]>(head_.embedding_dim);
    row = long_row.get();
  }
  FillVirtualRow(head_, class_id, row);
  EncodeNearest(row, nullptr, record);
}

void RowCodec::FillVirtual(int64_t class_id, float* weights) const {
  FillVirtualRow(head_, class_id, weights);
  if (head_.weight_dtype == DataType::kFloat32) return;
  // Rounded in place, a block at a time.
  std::byte stored[1 << 10];
  constexpr int64_t kBlock = sizeof(stored) / 2;
  for (int64_t begin = 0; begin < head_.embedding_dim; begin += kBlock) {
    const int64_t size = std::min<int64_t>(kBlock, head_.embedding_dim - begin);
    StoreNearest(head_.weight_dtype, weights + begin, size, stored);
    Widen(head_.weight_dtype, stored, size, weights + begin);
  }
}

}  // namespace myriad
