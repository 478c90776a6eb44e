#ifndef MYRIAD_HEAD_ROW_ACCESS_H_
#define MYRIAD_HEAD_ROW_ACCESS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace myriad {

// The n rows of one step, numbered from 0, in float32: where they are kept so, else as a copy in memory that the caller lends for one row
// at a time. So a step that works on rows one by one never needs a copy of all of them.
//
// Thread-safe for different rows; a thread lends memory of its own.
class RowView {
 public:
  virtual ~RowView() = default;

  virtual int64_t count() const = 0;
  // Floats to lend for a row; 0 where rows are kept as float32.
  virtual int64_t scratch_floats() const = 0;
  // A hint: the row's weights are wanted soon.
  virtual void Prefetch(int64_t row) const = 0;
  // Its D weights, which are valid until the row changes or `scratch` is used again.
  virtual const float* Weights(int64_t row, float* scratch) const = 0;
};

class RowEditor : public RowView {
 public:
  // Of D weights and of as many slot numbers as SlotRanges() says.
  using RowChange = absl::FunctionRef<void(float* weights, float* slots)>;

  // A hint: the row is to change soon.
  virtual void PrefetchToChange(int64_t row) const = 0;
  // Calls `change` with the row's numbers, and keeps what it leaves. Requires: once at most for a row.
  virtual void Change(int64_t row, float* scratch, RowChange change) = 0;
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_ROW_ACCESS_H_
