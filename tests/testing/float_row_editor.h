#ifndef MYRIAD_TESTS_TESTING_FLOAT_ROW_EDITOR_H_
#define MYRIAD_TESTS_TESTING_FLOAT_ROW_EDITOR_H_

#include <algorithm>
#include <cstdint>

#include "absl/types/span.h"
#include "head/row_access.h"
#include "head/row_kernels.h"

namespace myriad {

// Rows of D floats, each with D slot numbers, that lie anywhere in memory: worked on where they are, or `lent`, each by way of memory of
// its reader's. What the spans point to, and the rows, outlive the object.
class FloatRowEditor : public RowEditor {
 public:
  FloatRowEditor(int dim, absl::Span<float* const> weights, absl::Span<float* const> slots, bool lent = false)
      : dim_(dim), weights_(weights), slots_(slots), lent_(lent) {}

  int64_t count() const override { return static_cast<int64_t>(weights_.size()); }
  int64_t scratch_floats() const override { return lent_ ? 2 * dim_ : 0; }
  void Prefetch(int64_t row) const override { PrefetchRow(weights_[row], dim_, /*write=*/false); }
  const float* Weights(int64_t row, float* scratch) const override {
    if (!lent_) return weights_[row];
    std::copy_n(weights_[row], dim_, scratch);
    return scratch;
  }
  void PrefetchToChange(int64_t row) const override {
    PrefetchRow(weights_[row], dim_, /*write=*/true);
    PrefetchRow(slots_[row], dim_, /*write=*/true);
  }
  void Change(int64_t row, float* scratch, RowChange change) override {
    if (!lent_) return change(weights_[row], slots_[row]);
    std::copy_n(weights_[row], dim_, scratch);
    std::copy_n(slots_[row], dim_, scratch + dim_);
    change(scratch, scratch + dim_);
    std::copy_n(scratch, dim_, weights_[row]);
    std::copy_n(scratch + dim_, dim_, slots_[row]);
  }

 private:
  const int dim_;
  const absl::Span<float* const> weights_;
  const absl::Span<float* const> slots_;
  const bool lent_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_FLOAT_ROW_EDITOR_H_
