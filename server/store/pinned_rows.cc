#include "server/store/pinned_rows.h"

#include "head/prefetch.h"

namespace myriad {

PinnedRows::PinnedRows(const HeadSpec& head, const RowCodec* codec, const IdleRows* idle)
    : codec_(codec), idle_(idle), dim_(head.embedding_dim), slot_floats_(SlotNumbers(head)) {}

void PinnedRows::Begin(int64_t step, int64_t count) {
  step_ = step;
  in_place_ = codec_->in_place() && !idle_->active();
  rows_.assign(count, Row());
}

const float* PinnedRows::Weights(int64_t row, float* scratch) const {
  const Row& r = rows_[row];
  if (in_place_) return reinterpret_cast<const float*>(r.record);
  idle_->Decode(r.class_id, r.step, r.settled, r.record, scratch, idle_->active() ? scratch + dim_ : nullptr);
  return scratch;
}

void PinnedRows::Change(int64_t row, float* scratch, RowChange change) {
  const Row& r = rows_[row];
  if (in_place_) {
    float* const weights = reinterpret_cast<float*>(r.record);
    return change(weights, weights + dim_);
  }
  float* const slots = scratch + dim_;
  idle_->Decode(r.class_id, r.step, r.settled, r.record, scratch, slots);
  change(scratch, slots);
  codec_->EncodeStep(step_, r.class_id, scratch, slots, r.record);
}

}  // namespace myriad
