#ifndef MYRIAD_SERVER_STEP_STEP_INPUTS_H_
#define MYRIAD_SERVER_STEP_STEP_INPUTS_H_

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "server/store/row_store.h"

namespace myriad {

// Checks one rank's labels. INVALID_ARGUMENT naming rank, sample and value where one is outside [0, class_count).
absl::Status CheckLabels(absl::Span<const int64_t> labels, int64_t class_count, int rank);

// RESOURCE_EXHAUSTED if what DrawStepRows() keeps of `label_count` labels does not fit the memory. Counts that always fit are not asked
// for.
absl::Status CheckLabelsFit(const RowStore& store, int64_t label_count);

// The first row of `matrix` (2-d float32, contiguous) with a number that is not finite, or -1.
int64_t FirstRowNotFinite(const at::Tensor& matrix);

// The rows that are not pinned are moved by the step as well where the optimizer says so. Errors: those of RowStore::MoveIdleRows().
absl::Status MoveIdleRows(const OptimizerOptions& optimizer, double learning_rate, RowStore* store);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_STEP_INPUTS_H_
