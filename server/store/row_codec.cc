#include "server/store/row_codec.h"

#include <algorithm>
#include <cstring>

#include "head/counter_random.h"
#include "head/stored_numbers.h"
#include "head/virtual_rows.h"

namespace myriad {
namespace {

// Of StreamKey(): apart from virtual rows, partitions and draws.
constexpr uint64_t kRoundingPurpose = 0x726f756e64;

}  // namespace

RowCodec::RowCodec(const HeadSpec& head)
    : head_(head), slot_ranges_(SlotRanges(head)), weight_bytes_(head.embedding_dim * BytesOf(head.weight_dtype)) {
  record_bytes_ = weight_bytes_;
  in_place_ = head.weight_dtype == DataType::kFloat32;
  for (const SlotRange& range : slot_ranges_) {
    record_bytes_ += range.count * BytesOf(range.type);
    in_place_ = in_place_ && range.type == DataType::kFloat32;
  }
}

void RowCodec::Decode(const std::byte* record, float* weights, float* slots) const {
  Widen(head_.weight_dtype, record, head_.embedding_dim, weights);
  if (slots == nullptr) return;
  const std::byte* stored = record + weight_bytes_;
  for (const SlotRange& range : slot_ranges_) {
    Widen(range.type, stored, range.count, slots);
    stored += range.count * BytesOf(range.type);
    slots += range.count;
  }
}

uint64_t RowCodec::RoundingKey(int64_t step, int64_t class_id) const {
  return StreamKey(head_.seed, kRoundingPurpose, static_cast<uint64_t>(step), static_cast<uint64_t>(class_id));
}

void RowCodec::EncodeStep(int64_t step, int64_t class_id, const float* weights, const float* slots, std::byte* record) const {
  const uint64_t key = RoundingKey(step, class_id);
  StoreStochastically(head_.weight_dtype, key, weights, head_.embedding_dim, record);
  std::byte* stored = record + weight_bytes_;
  for (const SlotRange& range : slot_ranges_) {
    // Slots draw from a stream of their own; no optimizer has more than one range of 16 bits.
    StoreStochastically(range.type, ~key, slots, range.count, stored);
    stored += range.count * BytesOf(range.type);
    slots += range.count;
  }
}

void RowCodec::RoundSettled(int64_t step, int64_t class_id, float* weights) const {
  if (head_.weight_dtype == DataType::kFloat32) return;
  std::vector<std::byte> stored(weight_bytes_);
  StoreStochastically(head_.weight_dtype, RoundingKey(step, class_id), weights, head_.embedding_dim, stored.data());
  Widen(head_.weight_dtype, stored.data(), head_.embedding_dim, weights);
}

void RowCodec::EncodeNearest(const float* weights, const float* slots, std::byte* record) const {
  StoreNearest(head_.weight_dtype, weights, head_.embedding_dim, record);
  if (slots == nullptr) {
    std::memset(record + weight_bytes_, 0, record_bytes_ - weight_bytes_);
    return;
  }
  std::byte* stored = record + weight_bytes_;
  for (const SlotRange& range : slot_ranges_) {
    StoreNearest(range.type, slots, range.count, stored);
    stored += range.count * BytesOf(range.type);
    slots += range.count;
  }
}

void RowCodec::EncodeVirtual(int64_t class_id, std::byte* record) const {
  StoreVirtualRow(head_, class_id, record);
  std::memset(record + weight_bytes_, 0, record_bytes_ - weight_bytes_);
}

}  // namespace myriad
