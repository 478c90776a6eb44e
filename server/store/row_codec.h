#ifndef MYRIAD_SERVER_STORE_ROW_CODEC_H_
#define MYRIAD_SERVER_STORE_ROW_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "head/head_spec.h"

namespace myriad {

// A row's record, the same bytes in the slab and on disk: D weights in the head's weight_dtype, then the slots, range by range as
// SlotRanges() says. Beside it stands the row in float32: D weights and SlotNumbers() slot numbers. A value; thread-safe.
class RowCodec {
 public:
  explicit RowCodec(const HeadSpec& head);

  int64_t record_bytes() const { return record_bytes_; }
  // The first of them: the weights.
  int64_t weight_bytes() const { return weight_bytes_; }
  // A record is the row's float32 numbers themselves: a step can work on it in place.
  bool in_place() const { return in_place_; }

  // `slots` may be nullptr.
  void Decode(const std::byte* record, float* weights, float* slots) const;

  // As step `step` leaves the row of a class: 16-bit numbers rounded stochastically, keyed by (seed, step, class, slot, element).
  void EncodeStep(int64_t step, int64_t class_id, const float* weights, const float* slots, std::byte* record) const;

  // D weights as step `step` rounds them, exactly as EncodeStep() does, in place.
  void RoundSettled(int64_t step, int64_t class_id, float* weights) const;

  // Numbers given from outside (imports, tests), and virtual rows: to the nearest. `slots` may be nullptr: zeros.
  void EncodeNearest(const float* weights, const float* slots, std::byte* record) const;

  // The row of a class that was never stored, as storing it gives it: zero slots.
  void EncodeVirtual(int64_t class_id, std::byte* record) const;

 private:
  uint64_t RoundingKey(int64_t step, int64_t class_id) const;

  const HeadSpec head_;
  const std::vector<SlotRange> slot_ranges_;
  const int64_t weight_bytes_;
  int64_t record_bytes_;
  bool in_place_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_CODEC_H_
