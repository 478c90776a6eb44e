#ifndef MYRIAD_HEAD_SOFTMAX_PASSES_H_
#define MYRIAD_HEAD_SOFTMAX_PASSES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "head/row_access.h"

namespace myriad {

// What SoftmaxShare does between its matrix products, behind one interface with two implementations: fused loops over CPU memory, and
// plain ATen operations that run on any device. A tile is t x B (classes x samples), contiguous. Tensors are float32 on one device unless
// said otherwise; outputs have the right shape already. Thread-safe on different outputs: tiles are worked on by several threads.
class SoftmaxPasses {
 public:
  struct Checked {
    int64_t degenerate_count = 0;   // Rows with a norm below kMinNorm (row_kernels.h).
    int64_t first_not_finite = -1;  // The first row that has a NaN or an infinity; -1 if none.
  };

  virtual ~SoftmaxPasses() = default;

  // unit[j] = rows[j]/|rows[j]| and inverse_norm[j] = 1/|rows[j]|; both 0 for a row that is degenerate or not finite.
  virtual Checked Normalize(const at::Tensor& rows, at::Tensor& unit, at::Tensor& inverse_norm) const = 0;

  // The cosine of a[a_index[k]] and b[b_index[k]] for each k, in double; 0 if one is zero. The rows are unit rows already, but rounded to
  // float: dividing by their norms again leaves an error that vanishes with the angle, where a margin's slope is steepest.
  virtual std::vector<double> Cosines(const at::Tensor& a, absl::Span<const int64_t> a_index, const at::Tensor& b,
                                      absl::Span<const int64_t> b_index) const = 0;

  // tile[rows[k]][samples[k]] = -inf: a sample's own class is left out of the maxima and sums.
  virtual void Mask(at::Tensor& tile, absl::Span<const int64_t> rows, absl::Span<const int64_t> samples) const = 0;

  // max_logit[i] (B) rises to scale * the tile's largest cosine of sample i; factor[i] (B) = exp(old - new), 1 where old was -inf.
  // Returns false if no maximum moved (all factors are 1); may return true anyway.
  virtual bool RaiseMax(const at::Tensor& tile, double scale, at::Tensor& max_logit, at::Tensor& factor) const = 0;

  // tile = exp(scale * tile - max_logit) in place; sum_exp (B doubles) grows by its sums over classes. All 0 where max_logit is -inf.
  virtual void Exponentiate(at::Tensor& tile, double scale, const at::Tensor& max_logit, at::Tensor& sum_exp) const = 0;

  // out[i] = factor * exp(max_logit[i] - log_z[i]), 0 where max_logit[i] is -inf. `log_z` is B doubles.
  virtual void Coefficients(const at::Tensor& max_logit, const at::Tensor& log_z, double factor, at::Tensor& out) const = 0;

  // out[i] = factors[i] * rows[i].
  virtual void ScaleRows(const at::Tensor& factors, const at::Tensor& rows, at::Tensor& out) const = 0;

  // out[out_index[k]] += factors[k] * rows[row_index[k]], in the order of k.
  virtual void AddRows(absl::Span<const double> factors, const at::Tensor& rows, absl::Span<const int64_t> row_index, at::Tensor& out,
                       absl::Span<const int64_t> out_index) const = 0;

  // Gradients through the normalization, in place: g = (g - (g . unit) unit) * inverse_norm, row by row.
  virtual void Project(const at::Tensor& unit, const at::Tensor& inverse_norm, at::Tensor& gradients) const = 0;
};

// For CPU tensors.
std::unique_ptr<SoftmaxPasses> MakeFusedPasses();
// For tensors of any device: the CUDA path, and what the fused passes are tested against.
std::unique_ptr<SoftmaxPasses> MakePlainPasses();

// Normalize over rows that lie anywhere in CPU memory. `scratch` has a row of rows.scratch_floats() for each of at::get_num_threads().
SoftmaxPasses::Checked GatherAndNormalize(const RowView& rows, at::Tensor& scratch, at::Tensor& unit, at::Tensor& inverse_norm);

}  // namespace myriad

#endif  // MYRIAD_HEAD_SOFTMAX_PASSES_H_
