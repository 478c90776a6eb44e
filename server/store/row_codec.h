#ifndef MYRIAD_SERVER_STORE_ROW_CODEC_H_
#define MYRIAD_SERVER_STORE_ROW_CODEC_H_

#include <cstddef>
#include <cstdint>

#include "head/head_spec.h"

namespace myriad {

// A row's record, the same bytes in the slab and on disk: D weights, then slots * D slot numbers, in the head's dtypes. A value;
// thread-safe.
class RowCodec {
 public:
  explicit RowCodec(const HeadSpec& head);

  int64_t record_bytes() const { return record_bytes_; }
  // A record is the row's float32 numbers themselves: a step can work on it in place.
  bool in_place() const { return in_place_; }

  // To D floats and slots * D floats; `slots` may be nullptr.
  void Decode(const std::byte* record, float* weights, float* slots) const;

  // As step `step` leaves the row of a class: 16-bit numbers rounded stochastically, keyed by (seed, step, class, slot, element).
  void EncodeStep(int64_t step, int64_t class_id, const float* weights, const float* slots, std::byte* record) const;

  // Numbers given from outside (imports, tests), and virtual rows: to the nearest. `slots` may be nullptr: zeros.
  void EncodeNearest(const float* weights, const float* slots, std::byte* record) const;

  // The row of a class that was never stored, as storing it gives it: zero slots.
  void EncodeVirtual(int64_t class_id, std::byte* record) const;
  // Its weights, D floats.
  void FillVirtual(int64_t class_id, float* weights) const;

 private:
  const HeadSpec head_;
  const int64_t slot_count_;  // Numbers in all slots.
  const int64_t weight_bytes_;
  const int64_t record_bytes_;
  const bool in_place_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_CODEC_H_
