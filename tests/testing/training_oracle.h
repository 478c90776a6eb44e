#ifndef MYRIAD_TESTS_TESTING_TRAINING_ORACLE_H_
#define MYRIAD_TESTS_TESTING_TRAINING_ORACLE_H_

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "absl/types/span.h"
#include "head/head_spec.h"

namespace myriad {

// What training must compute, written to be too simple to be wrong: one process, float64, plain loops over all of W. Shares no code with
// head/ but its option structs. Not fast: O(batch * rows * dim) a step in scalar code.
class TrainingOracle {
 public:
  struct Row {
    std::vector<double> weights;
    std::vector<double> slots;  // As SlotRanges() orders them.
  };
  // Writes the initial weights of a class never set: `dim` floats. Slots start at 0.
  using InitialRow = std::function<void(int64_t class_id, float* weights)>;

  struct Result {
    double loss = 0.0;  // Mean of log Z - z_y over the samples with a target; 0 if there is none.
    double target_cosine_sum = 0.0;
    int64_t target_count = 0;
    std::vector<double> log_z;                // B; -inf for a sample without any row.
    std::vector<double> embedding_gradients;  // B x D, row-major.
  };

  TrainingOracle(int dim, const MarginOptions& margin, const OptimizerOptions& optimizer, InitialRow initial_row);

  // Sets a row, or adds it. Empty `slots` mean zeros.
  void SetRow(int64_t class_id, absl::Span<const float> weights, absl::Span<const float> slots);
  // The row as of now; made from `initial_row` if it was never used.
  const Row& RowOf(int64_t class_id);
  size_t row_count() const { return rows_.size(); }

  // One step over the rows `class_ids` (distinct, of all shards) with all ranks' embeddings (B x D) and labels (B). A label whose class
  // is not among the rows has no target: its log Z goes over the rows, its gradient is p/B, and it stays out of the loss.
  // Those rows move, and with IdleUpdate::kExact all others that were ever set or used, with rate learning_rate * rate_scale.
  Result Step(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings, absl::Span<const int64_t> labels,
              double learning_rate);
  // The same without moving W. If `row_gradients` is given it gets class_ids.size() x D: dLoss/dw.
  Result Evaluate(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings, absl::Span<const int64_t> labels,
                  std::vector<double>* row_gradients = nullptr);

 private:
  // Row by its dLoss/dw, D numbers, by the equations of torch.optim's documentation.
  void Move(double rate, const double* gradient, Row* row) const;

  const int dim_;
  const MarginOptions margin_;
  const OptimizerOptions optimizer_;
  const InitialRow initial_row_;
  std::unordered_map<int64_t, Row> rows_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_TRAINING_ORACLE_H_
