#include "worker/backbone/prelu.h"

#include <algorithm>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "worker/backbone/prelu_kernels.h"

namespace myriad {
namespace {

constexpr at::MemoryFormat kChannelsTogether = at::MemoryFormat::ChannelsLast;

// One sum of the weight's gradient each, added up in order: the same bits on any number of threads.
constexpr int64_t kPartElements = 1 << 17;

bool TakesOurKernel(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 4 && x.is_contiguous(kChannelsTogether);
}

struct Gradients {
  at::Tensor x;
  at::Tensor weight;
};

Gradients Backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy) {
  const int64_t channels = weight.numel();
  const int64_t rows = x.numel() / channels;
  const int64_t part_rows = std::max<int64_t>(1, kPartElements / channels);
  const int64_t parts = (rows + part_rows - 1) / part_rows;
  Gradients gradients{at::empty_like(x), at::Tensor()};
  at::Tensor partial = at::zeros({parts, channels}, weight.options());
  const float* const x_data = x.const_data_ptr<float>();
  const float* const dy_data = dy.const_data_ptr<float>();
  const float* const weight_data = weight.const_data_ptr<float>();
  float* const dx_data = gradients.x.mutable_data_ptr<float>();
  float* const partial_data = partial.mutable_data_ptr<float>();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * part_rows;
      const int64_t count = std::min(part_rows, rows - first);
      PReluBackward(x_data + first * channels, weight_data, dy_data + first * channels, count, channels, dx_data + first * channels,
                    partial_data + part * channels);
    }
  });
  gradients.weight = partial.sum(0);
  return gradients;
}

class PReluFunction : public torch::autograd::Function<PReluFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return at::prelu(x, weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    Gradients result = Backward(saved[0], saved[1], gradients[0].contiguous(kChannelsTogether));
    return {result.x, result.weight};
  }
};

}  // namespace

PReluImpl::PReluImpl(int64_t channels) : weight_(register_parameter("weight", at::full({channels}, 0.25, at::kFloat))) {}

torch::Tensor PReluImpl::forward(const torch::Tensor& x) {
  return TakesOurKernel(x) ? PReluFunction::apply(x, weight_) : at::prelu(x, weight_);
}

}  // namespace myriad
