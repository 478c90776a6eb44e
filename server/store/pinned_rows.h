#ifndef MYRIAD_SERVER_STORE_PINNED_ROWS_H_
#define MYRIAD_SERVER_STORE_PINNED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "head/head_spec.h"
#include "head/row_access.h"
#include "server/store/idle_rows.h"
#include "server/store/row_codec.h"

namespace myriad {

// The records of a step's rows, as the step sees them: as they stand (idle_rows.h), in float32. Where a record is those numbers itself the
// step works on it; else each row is widened when it is asked for and rounded as it is changed, and no wide copy of the others exists.
class PinnedRows : public RowEditor {
 public:
  // The record was left so by `step`, whole or `settled`, as IdleRows::Decode() has it.
  struct Row {
    int64_t class_id = -1;
    int64_t step = IdleRows::kBeforeAnyStep;
    bool settled = false;
    std::byte* record = nullptr;
  };

  // Without rows. `codec` and `idle` outlive the object.
  PinnedRows(const HeadSpec& head, const RowCodec* codec, const IdleRows* idle);

  // The rows of `step` from now on, all of them yet to be set. Idle rows move, or do not, until the next call. May throw std::bad_alloc.
  void Begin(int64_t step, int64_t count);
  void Set(int64_t row, const Row& value) { rows_[row] = value; }
  void Clear() { rows_.clear(); }
  int64_t step() const { return step_; }

  int64_t count() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t scratch_floats() const override { return in_place_ ? 0 : dim_ + slot_floats_; }
  void Prefetch(int64_t row) const override { PrefetchBytes(rows_[row].record, codec_->weight_bytes(), /*write=*/false); }
  const float* Weights(int64_t row, float* scratch) const override;
  void PrefetchToChange(int64_t row) const override { PrefetchBytes(rows_[row].record, codec_->record_bytes(), /*write=*/true); }
  void Change(int64_t row, float* scratch, RowChange change) override;

 private:
  const RowCodec* const codec_;
  const IdleRows* const idle_;
  const int64_t dim_;
  const int64_t slot_floats_;
  int64_t step_ = -1;
  bool in_place_ = false;
  std::vector<Row> rows_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_PINNED_ROWS_H_
