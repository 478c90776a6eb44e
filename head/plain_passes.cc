#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <limits>

#include "head/row_kernels.h"
#include "head/softmax_passes.h"

namespace myriad {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// A copy of host numbers on `device`.
template <typename T>
at::Tensor ToDevice(absl::Span<const T> values, at::ScalarType dtype, at::Device device) {
  return at::from_blob(const_cast<T*>(values.data()), {static_cast<int64_t>(values.size())}, at::TensorOptions().dtype(dtype))
      .to(device, dtype, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor Index(absl::Span<const int64_t> values, at::Device device) { return ToDevice(values, at::kLong, device); }

class PlainPasses : public SoftmaxPasses {
 public:
  Checked Normalize(const at::Tensor& rows, at::Tensor& unit, at::Tensor& inverse_norm) const override {
    const at::Tensor wide = rows.to(at::kDouble);
    const at::Tensor norm = wide.square().sum(1).sqrt();
    const at::Tensor finite = norm.isfinite();
    const at::Tensor degenerate = norm < kMinNorm;
    const at::Tensor usable = finite.logical_and(degenerate.logical_not());
    const at::Tensor inverse = at::where(usable, norm.reciprocal(), at::zeros_like(norm));
    inverse_norm.copy_(inverse);
    unit.copy_(at::where(usable.unsqueeze(1), wide * inverse.unsqueeze(1), at::zeros_like(wide)));
    Checked checked;
    checked.degenerate_count = degenerate.sum().item<int64_t>();
    const at::Tensor not_finite = finite.logical_not().nonzero();
    if (not_finite.size(0) > 0) checked.first_not_finite = not_finite.min().item<int64_t>();
    return checked;
  }

  std::vector<double> Cosines(const at::Tensor& a, absl::Span<const int64_t> a_index, const at::Tensor& b,
                              absl::Span<const int64_t> b_index) const override {
    const at::Tensor x = a.index_select(0, Index(a_index, a.device())).to(at::kDouble);
    const at::Tensor y = b.index_select(0, Index(b_index, b.device())).to(at::kDouble);
    const at::Tensor norms = (x.square().sum(1) * y.square().sum(1)).sqrt();
    const at::Tensor cosines = at::where(norms == 0.0, at::zeros_like(norms), (x * y).sum(1) / norms).cpu();
    return std::vector<double>(cosines.const_data_ptr<double>(), cosines.const_data_ptr<double>() + cosines.numel());
  }

  void Mask(at::Tensor& tile, absl::Span<const int64_t> rows, absl::Span<const int64_t> samples) const override {
    if (rows.empty()) return;
    tile.index_put_({Index(rows, tile.device()), Index(samples, tile.device())}, at::full({}, kNegativeInfinity, tile.options()));
  }

  bool RaiseMax(const at::Tensor& tile, double scale, at::Tensor& max_logit, at::Tensor& factor) const override {
    const at::Tensor raised = at::maximum(max_logit, tile.amax(0) * scale);
    factor.copy_(at::where(max_logit.isinf(), at::ones_like(raised), (max_logit - raised).exp()));
    max_logit.copy_(raised);
    return true;
  }

  void Exponentiate(at::Tensor& tile, double scale, const at::Tensor& max_logit, at::Tensor& sum_exp) const override {
    const at::Tensor reference = at::where(max_logit.isinf(), at::zeros_like(max_logit), max_logit);
    tile.mul_(scale).sub_(reference.unsqueeze(0)).exp_();
    sum_exp.add_(tile.sum(0, /*keepdim=*/false, at::kDouble));
  }

  void Coefficients(const at::Tensor& max_logit, const at::Tensor& log_z, double factor, at::Tensor& out) const override {
    const at::Tensor exponent = (max_logit.to(at::kDouble) - log_z).exp() * factor;
    out.copy_(at::where(max_logit.isinf(), at::zeros_like(exponent), exponent));
  }

  void ScaleRows(const at::Tensor& factors, const at::Tensor& rows, at::Tensor& out) const override {
    at::mul_out(out, rows, factors.unsqueeze(1));
  }

  void AddRows(absl::Span<const double> factors, const at::Tensor& rows, absl::Span<const int64_t> row_index, at::Tensor& out,
               absl::Span<const int64_t> out_index) const override {
    if (factors.empty()) return;
    const at::Tensor scale = ToDevice(factors, at::kDouble, out.device()).to(at::kFloat).unsqueeze(1);
    const at::Tensor terms = rows.index_select(0, Index(row_index, rows.device())) * scale;
    // index_put_ sorts before it sums, so it repeats bit for bit on CUDA, where index_add_ does not.
    out.index_put_({Index(out_index, out.device())}, terms, /*accumulate=*/true);
  }

  void Project(const at::Tensor& unit, const at::Tensor& inverse_norm, at::Tensor& gradients) const override {
    const at::Tensor along = (gradients * unit).sum(1, /*keepdim=*/true);
    gradients.sub_(unit * along).mul_(inverse_norm.unsqueeze(1));
  }
};

}  // namespace

std::unique_ptr<SoftmaxPasses> MakePlainPasses() { return std::make_unique<PlainPasses>(); }

}  // namespace myriad
