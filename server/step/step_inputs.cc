#include "server/step/step_inputs.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "head/row_optimizer.h"

namespace myriad {

absl::Status CheckLabels(absl::Span<const int64_t> labels, int64_t class_count, int rank) {
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= class_count) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", rank, ", sample ", i, ": label ", labels[i], " is outside [0, ", class_count, ")"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLabelsFit(const RowStore& store, int64_t label_count) {
  // The labels, their ids and rows, and a hash map of them at its least load.
  constexpr int64_t kBytesPerLabel = 64;
  constexpr int64_t kAlwaysFit = int64_t{1} << 18;
  if (label_count <= kAlwaysFit) return absl::OkStatus();
  return store.CheckMemory(label_count * kBytesPerLabel, absl::StrCat(label_count, " labels of a step"));
}

int64_t FirstRowNotFinite(const at::Tensor& matrix) {
  const float* data = matrix.const_data_ptr<float>();
  const int64_t cols = matrix.size(1);
  for (int64_t row = 0; row < matrix.size(0); ++row) {
    // 0 * x is NaN for an infinite or NaN x, and else 0: one branch a row.
    float sum = 0;
    for (int64_t col = 0; col < cols; ++col) sum += 0.0f * data[row * cols + col];
    if (std::isnan(sum)) return row;
  }
  return -1;
}

absl::Status MoveIdleRows(const OptimizerOptions& optimizer, double learning_rate, RowStore* store) {
  if (optimizer.idle_update == IdleUpdate::kSkip) return absl::OkStatus();
  return store->MoveIdleRows(MakeSgdStep(optimizer, learning_rate));
}

}  // namespace myriad
