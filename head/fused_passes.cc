#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "head/logit_kernels.h"
#include "head/row_kernels.h"
#include "head/softmax_passes.h"

namespace myriad {
namespace {

constexpr int64_t kRowGrain = 64;
constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// Normalises row j = row_at(j) of n, several threads; prefetch(j) comes a little before.
template <typename Prefetch, typename RowAt>
SoftmaxPasses::Checked NormalizeRows(int64_t n, int dim, const Prefetch& prefetch, const RowAt& row_at, float* unit, float* inverse_norm) {
  std::atomic<int64_t> degenerate_count{0};
  std::atomic<int64_t> first_not_finite{n};
  at::parallel_for(0, n, kRowGrain, [&](int64_t begin, int64_t end) {
    int64_t degenerate = 0;
    int64_t not_finite = n;
    for (int64_t j = begin; j < end; ++j) {
      if (j + kPrefetchDistance < end) prefetch(j + kPrefetchDistance);
      const NormalizedRow row = NormalizeRow(row_at(j), dim, unit + j * dim);
      inverse_norm[j] = row.inverse_norm;
      if (row.inverse_norm == 0.0f && row.finite) ++degenerate;
      if (!row.finite) not_finite = std::min(not_finite, j);
    }
    degenerate_count += degenerate;
    int64_t seen = first_not_finite.load();
    while (not_finite < seen && !first_not_finite.compare_exchange_weak(seen, not_finite)) {
    }
  });
  const int64_t first = first_not_finite.load();
  return {degenerate_count.load(), first == n ? -1 : first};
}

class FusedPasses : public SoftmaxPasses {
 public:
  Checked Normalize(const at::Tensor& rows, at::Tensor& unit, at::Tensor& inverse_norm) const override {
    const int dim = static_cast<int>(rows.size(1));
    const float* data = rows.const_data_ptr<float>();
    return NormalizeRows(
        rows.size(0), dim, [](int64_t) {}, [&](int64_t j) { return data + j * dim; }, unit.mutable_data_ptr<float>(),
        inverse_norm.mutable_data_ptr<float>());
  }

  std::vector<double> Cosines(const at::Tensor& a, absl::Span<const int64_t> a_index, const at::Tensor& b,
                              absl::Span<const int64_t> b_index) const override {
    const int64_t dim = a.size(1);
    std::vector<double> cosines(a_index.size());
    for (size_t k = 0; k < cosines.size(); ++k) {
      const float* x = a.const_data_ptr<float>() + a_index[k] * dim;
      const float* y = b.const_data_ptr<float>() + b_index[k] * dim;
      const int d = static_cast<int>(dim);
      const double squares = Dot(x, x, d) * Dot(y, y, d);
      cosines[k] = squares == 0.0 ? 0.0 : Dot(x, y, d) / std::sqrt(squares);
    }
    return cosines;
  }

  void Mask(at::Tensor& tile, absl::Span<const int64_t> rows, absl::Span<const int64_t> samples) const override {
    float* data = tile.mutable_data_ptr<float>();
    for (size_t k = 0; k < rows.size(); ++k) data[rows[k] * tile.size(1) + samples[k]] = kNegativeInfinity;
  }

  bool RaiseMax(const at::Tensor& tile, double scale, at::Tensor& max_logit, at::Tensor& factor) const override {
    const int64_t batch = tile.size(1);
    float* max_data = max_logit.mutable_data_ptr<float>();
    float* factor_data = factor.mutable_data_ptr<float>();
    std::memcpy(factor_data, max_data, sizeof(float) * batch);
    RaiseMaxLogits(tile.const_data_ptr<float>(), tile.size(0), batch, static_cast<float>(scale), max_data);
    bool moved = false;
    for (int64_t i = 0; i < batch; ++i) {
      const float before = factor_data[i];
      const bool rescale = before != max_data[i] && before != kNegativeInfinity;
      factor_data[i] = rescale ? std::exp(before - max_data[i]) : 1.0f;
      moved = moved || rescale;
    }
    return moved;
  }

  void Exponentiate(at::Tensor& tile, double scale, const at::Tensor& max_logit, at::Tensor& sum_exp) const override {
    myriad::Exponentiate(tile.mutable_data_ptr<float>(), tile.size(0), tile.size(1), static_cast<float>(scale),
                         max_logit.const_data_ptr<float>(), sum_exp.mutable_data_ptr<double>());
  }

  void Coefficients(const at::Tensor& max_logit, const at::Tensor& log_z, double factor, at::Tensor& out) const override {
    const float* max_data = max_logit.const_data_ptr<float>();
    const double* log_z_data = log_z.const_data_ptr<double>();
    float* out_data = out.mutable_data_ptr<float>();
    for (int64_t i = 0; i < out.numel(); ++i) {
      out_data[i] = max_data[i] == kNegativeInfinity ? 0.0f : static_cast<float>(factor * std::exp(max_data[i] - log_z_data[i]));
    }
  }

  void ScaleRows(const at::Tensor& factors, const at::Tensor& rows, at::Tensor& out) const override {
    const int64_t dim = rows.size(1);
    const float* factor_data = factors.const_data_ptr<float>();
    const float* row_data = rows.const_data_ptr<float>();
    float* out_data = out.mutable_data_ptr<float>();
    for (int64_t i = 0; i < rows.size(0); ++i) Scale(factor_data[i], row_data + i * dim, static_cast<int>(dim), out_data + i * dim);
  }

  void AddRows(absl::Span<const double> factors, const at::Tensor& rows, absl::Span<const int64_t> row_index, at::Tensor& out,
               absl::Span<const int64_t> out_index) const override {
    const int64_t dim = rows.size(1);
    const float* row_data = rows.const_data_ptr<float>();
    float* out_data = out.mutable_data_ptr<float>();
    for (size_t k = 0; k < factors.size(); ++k) {
      AddScaled(static_cast<float>(factors[k]), row_data + row_index[k] * dim, static_cast<int>(dim), out_data + out_index[k] * dim);
    }
  }

  void Project(const at::Tensor& unit, const at::Tensor& inverse_norm, at::Tensor& gradients) const override {
    const int64_t dim = unit.size(1);
    const float* unit_data = unit.const_data_ptr<float>();
    const float* norm_data = inverse_norm.const_data_ptr<float>();
    float* gradient_data = gradients.mutable_data_ptr<float>();
    at::parallel_for(0, unit.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        ProjectRow(unit_data + j * dim, norm_data[j], static_cast<int>(dim), gradient_data + j * dim);
      }
    });
  }
};

}  // namespace

std::unique_ptr<SoftmaxPasses> MakeFusedPasses() { return std::make_unique<FusedPasses>(); }

SoftmaxPasses::Checked GatherAndNormalize(const RowView& rows, at::Tensor& scratch, at::Tensor& unit, at::Tensor& inverse_norm) {
  float* const lent = scratch.mutable_data_ptr<float>();
  const int64_t floats = rows.scratch_floats();
  return NormalizeRows(
      rows.count(), static_cast<int>(unit.size(1)), [&](int64_t j) { rows.Prefetch(j); },
      [&](int64_t j) { return rows.Weights(j, lent + at::get_thread_num() * floats); }, unit.mutable_data_ptr<float>(),
      inverse_norm.mutable_data_ptr<float>());
}

}  // namespace myriad
