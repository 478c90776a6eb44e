#ifndef MYRIAD_WORKER_BACKBONE_PRELU_H_
#define MYRIAD_WORKER_BACKBONE_PRELU_H_

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace myriad {

// y = x where x > 0, else weight[c] * x (arXiv:1502.01852, equation 1), with one weight a channel that starts at 0.25: torch::nn::PReLU,
// and its name in a state_dict ("weight"). On the CPU, float32 images whose channels lie together take one vectorised pass back, where
// ATen's kernel takes a fifth of a training step of the small network; all others take ATen's. Both agree to rounding, and neither
// depends on the number of threads.
class PReluImpl : public torch::nn::Module {
 public:
  explicit PReluImpl(int64_t channels);
  // `x`: B x channels x H x W.
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::Tensor weight_;
};
TORCH_MODULE(PRelu);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_PRELU_H_
