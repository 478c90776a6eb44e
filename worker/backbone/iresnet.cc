#include <array>
#include <memory>
#include <string>

#include <torch/nn/modules/container/sequential.h>

#include "absl/strings/str_cat.h"
#include "worker/backbone/layers.h"
#include "worker/backbone/networks.h"
#include "worker/backbone/prelu.h"

namespace myriad {
namespace {

// out = bn3(conv2(prelu(bn2(conv1(bn1(x)))))) + identity, where conv2 carries the stride; the identity is a strided 1 x 1 convolution with
// BatchNorm where the shape changes (arXiv:2004.04989, figure 1c, in the form that face recognition uses).
class Block : public torch::nn::Module {
 public:
  Block(int64_t in, int64_t out, int64_t stride)
      : bn1_(register_module("bn1", Norm(in))),
        conv1_(register_module("conv1", Conv(in, out, 3, 1))),
        bn2_(register_module("bn2", Norm(out))),
        prelu_(register_module("prelu", PRelu(out))),
        conv2_(register_module("conv2", Conv(out, out, 3, stride))),
        bn3_(register_module("bn3", Norm(out))) {
    if (stride != 1 || in != out) {
      downsample_ = register_module("downsample", torch::nn::Sequential(Conv(in, out, 1, stride), Norm(out)));
    }
  }

  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor out = bn3_(conv2_(prelu_(bn2_(conv1_(bn1_(x))))));
    return out + (downsample_.is_empty() ? x : downsample_->forward(x));
  }

 private:
  torch::nn::BatchNorm2d bn1_;
  torch::nn::Conv2d conv1_;
  torch::nn::BatchNorm2d bn2_;
  PRelu prelu_;
  torch::nn::Conv2d conv2_;
  torch::nn::BatchNorm2d bn3_;
  torch::nn::Sequential downsample_{nullptr};
};

std::array<int, 4> BlocksOf(int depth) {
  switch (depth) {
    case 18: return {2, 2, 2, 2};
    case 34: return {3, 4, 6, 3};
    case 50: return {3, 4, 14, 3};
    default: return {3, 13, 30, 3};
  }
}

class IResNet : public Network {
 public:
  explicit IResNet(const BackboneSpec& spec) {
    conv1_ = register_module("conv1", Conv(spec.channels, 64, 3, 1));
    bn1_ = register_module("bn1", Norm(64));
    prelu_ = register_module("prelu", PRelu(64));
    int64_t in = 64;
    const std::array<int, 4> blocks = BlocksOf(spec.depth);
    for (int i = 0; i < 4; ++i) {
      const int64_t out = int64_t{64} << i;
      torch::nn::Sequential layer;
      for (int j = 0; j < blocks[i]; ++j) {
        layer->push_back(std::make_shared<Block>(in, out, j == 0 ? 2 : 1));
        in = out;
      }
      layers_[i] = register_module(absl::StrCat("layer", i + 1), layer);
    }
    RegisterTail(spec, in, HalvedSide(spec.image_size, 4), spec.dropout);
  }

  torch::Tensor Embed(torch::Tensor x) override {
    x = prelu_(bn1_(conv1_(x)));
    for (torch::nn::Sequential& layer : layers_) x = layer->forward(x);
    return Tail(x);
  }

 private:
  torch::nn::Conv2d conv1_{nullptr};
  torch::nn::BatchNorm2d bn1_{nullptr};
  PRelu prelu_{nullptr};
  std::array<torch::nn::Sequential, 4> layers_{nullptr, nullptr, nullptr, nullptr};
};

}  // namespace

std::shared_ptr<Network> MakeIResNet(const BackboneSpec& spec) { return std::make_shared<IResNet>(spec); }

}  // namespace myriad
