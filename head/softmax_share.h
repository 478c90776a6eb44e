#ifndef MYRIAD_HEAD_SOFTMAX_SHARE_H_
#define MYRIAD_HEAD_SOFTMAX_SHARE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partial_denominator.h"
#include "head/row_access.h"

namespace myriad {

// One participant's part of the margin softmax of one step: a shard over its rows (compute at the shard), or a rank over its slice
// (compute at the worker). The same mathematics for both (design section 4). With unit rows u_j = w_j/|w_j| and unit embeddings
// e_i = x_i/|x_i|, cosines c_ij = e_i . u_j, logits z_ij = s c_ij (target: margin(c_iy)):
//   Forward:   m_i, l_i over rows j != y_i;  U_i = sum_{j != y_i} exp(z_ij - m_i) u_j   (W is read once, nothing depends on log Z)
//   dX:        dL/de_i = s exp(m_i - log Z_i) U_i / B + (p_iy - 1) (dz/dc)_i u_y / B,  then through the normalization:
//              dL/dx_i = (g - (g . e_i) e_i) / |x_i|
//   dW:        dL/du_j = sum_i exp(z_ij - m_i) [s exp(m_i - log Z_i)/B] e_i + target terms, then (h - (h . u_j) u_j) / |w_j|
// so the exponentials are computed once and the merge only scales embeddings, never the n x B matrix. A target present elsewhere adds
// nothing here. A sample without a target: gradient p/B. A row or embedding with norm below 1e-12: cosine 0, gradient 0, counted.
//
// Logits lie class-major (n x B): tiles over classes. When all of them fit `tile_bytes` they are kept from Forward to
// RowGradients, else RowGradients recomputes each tile.
//
// Buffers are reused from step to step: one object lives as long as its head is open. Not thread-safe; one step at a time. It computes on
// at::get_num_threads() threads; call it from one thread, as OpenMP keeps a team for each calling one. A step repeats bit for bit on the
// same hardware and number of threads. Forward reserves what the step needs: nothing of its size is
// allocated after it but results. CPU or CUDA by
// the device of what comes in; on CPU the passes over rows are fused (their plain ATen counterparts are the CUDA path and the tests'
// reference).
class SoftmaxShare {
 public:
  struct Options {
    MarginOptions margin;
    int embedding_dim = 0;
    int64_t tile_bytes = int64_t{32} << 20;
    bool plain_passes = false;  // Runs the CUDA path's plain ATen passes on the CPU too; for tests.
  };
  explicit SoftmaxShare(const Options& options);
  ~SoftmaxShare();

  // Begins a step over n rows: normalises each into memory of its own, in one pass. CPU. `rows` is not kept.
  void SetRows(const RowView& rows);
  // The same from a dense n x D float32 tensor, on its device.
  void SetRows(const at::Tensor& rows);
  // Rows of the step with a norm below 1e-12.
  int64_t degenerate_row_count() const;

  // Runs a chunk's forward pass. `embeddings` is B x D float32 on the rows' device, contiguous; `target_rows[i]` is the row of y_i, or -1
  // if this participant does not own it. May be called again for the next chunk after RowGradients (or instead of it: nothing moves).
  // Errors: INVALID_ARGUMENT naming the sample whose embedding is not finite, or the row that is not.
  absl::StatusOr<Denominators> Forward(const at::Tensor& embeddings, absl::Span<const int32_t> target_rows);
  // Embeddings of the last Forward with a norm below 1e-12.
  int64_t degenerate_embedding_count() const;

  // This participant's share of dLoss/dX of the last Forward, B x D float32. `batch_size` is what gradients are divided by (all chunks).
  at::Tensor EmbeddingGradients(const MergedDenominators& merged, int64_t batch_size);

  // Adds the chunk's dLoss/du to the step's sum (the third product). After it, Forward may start the next chunk. Rows and embeddings are
  // finite, so with log Z as MergeShares gives it all gradients are.
  void AccumulateRowGradients(const MergedDenominators& merged, int64_t batch_size);

  // The accumulated dLoss/dw through the normalization, n x D float32: what a rank sends to the owners in compute at the worker.
  at::Tensor RowGradients() const;

  // The same gradients applied in one fused pass per row: each of `rows` changes, its slots as the optimizer's SlotRanges() say. CPU. Not
  // kept. Requires: n rows, in the order of SetRows, holding what SetRows read. Ends the step: SetRows begins the next one. Nothing is
  // allocated if SetRows had the same `rows`.
  void Apply(const OptimizerOptions& optimizer, double learning_rate, RowEditor& rows);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_SOFTMAX_SHARE_H_
