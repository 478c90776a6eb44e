#ifndef MYRIAD_HEAD_FLOAT_ROW_VIEW_H_
#define MYRIAD_HEAD_FLOAT_ROW_VIEW_H_

#include <cstdint>

#include "absl/types/span.h"
#include "head/row_access.h"
#include "head/row_kernels.h"

namespace myriad {

// Rows that lie as float32 anywhere in memory, to be read. What the span points to, and the rows, outlive the object.
class FloatRowView : public RowView {
 public:
  FloatRowView(int dim, absl::Span<const float* const> weights) : dim_(dim), weights_(weights) {}

  int64_t count() const override { return static_cast<int64_t>(weights_.size()); }
  int64_t scratch_floats() const override { return 0; }
  void Prefetch(int64_t row) const override { PrefetchRow(weights_[row], dim_, /*write=*/false); }
  const float* Weights(int64_t row, float*) const override { return weights_[row]; }

 private:
  const int dim_;
  const absl::Span<const float* const> weights_;
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_FLOAT_ROW_VIEW_H_
