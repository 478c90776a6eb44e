#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "worker/backbone/layers.h"
#include "worker/backbone/networks.h"
#include "worker/backbone/prelu.h"

namespace myriad {
namespace {

// Every second row and column: a 1 x 1 convolution of them is one of stride 2 of all. It is not left to the convolution itself, because the
// weights' gradient of one with stride and fewer than 8 channels is written past its buffer where the processor has AVX2 and no AVX-512
// (oneDNN issue 6035, LibTorch 2.11).
torch::Tensor EverySecond(const torch::Tensor& x) { return x.slice(2, 0, c10::nullopt, 2).slice(3, 0, c10::nullopt, 2); }

// out = prelu2(bn2(conv2(prelu1(bn1(conv1(x))))) + shortcut(x)); conv1 halves the side, the shortcut is a strided 1 x 1 convolution.
class Block : public torch::nn::Module {
 public:
  Block(int64_t in, int64_t out)
      : conv1_(register_module("conv1", Conv(in, out, 3, 2))),
        bn1_(register_module("bn1", Norm(out))),
        prelu1_(register_module("prelu1", PRelu(out))),
        conv2_(register_module("conv2", Conv(out, out, 3, 1))),
        bn2_(register_module("bn2", Norm(out))),
        shortcut_(register_module("shortcut", Conv(in, out, 1, 1))),
        prelu2_(register_module("prelu2", PRelu(out))) {}

  torch::Tensor Forward(const torch::Tensor& x) {
    torch::Tensor residual = bn2_(conv2_(prelu1_(bn1_(conv1_(x)))));
    return prelu2_(residual + shortcut_(EverySecond(x)));
  }

 private:
  torch::nn::Conv2d conv1_;
  torch::nn::BatchNorm2d bn1_;
  PRelu prelu1_;
  torch::nn::Conv2d conv2_;
  torch::nn::BatchNorm2d bn2_;
  torch::nn::Conv2d shortcut_;
  PRelu prelu2_;
};

// conv - bn - prelu at full size, then four blocks of 1, 2, 4 and 8 times the width that halve the side each.
class SmallResNet : public Network {
 public:
  explicit SmallResNet(const BackboneSpec& spec) {
    const int64_t width = spec.width;
    conv1_ = register_module("conv1", Conv(spec.channels, width, 3, 1));
    bn1_ = register_module("bn1", Norm(width));
    prelu_ = register_module("prelu", PRelu(width));
    int64_t in = width;
    for (int i = 0; i < 4; ++i) {
      const int64_t out = width << i;
      blocks_.push_back(register_module(absl::StrCat("block", i + 1), std::make_shared<Block>(in, out)));
      in = out;
    }
    RegisterTail(spec, in, HalvedSide(spec.image_size, 4), /*dropout=*/0.0);
  }

  torch::Tensor Embed(torch::Tensor x) override {
    x = prelu_(bn1_(conv1_(x)));
    for (const std::shared_ptr<Block>& block : blocks_) x = block->Forward(x);
    return Tail(x);
  }

 private:
  torch::nn::Conv2d conv1_{nullptr};
  torch::nn::BatchNorm2d bn1_{nullptr};
  PRelu prelu_{nullptr};
  std::vector<std::shared_ptr<Block>> blocks_;
};

}  // namespace

std::shared_ptr<Network> MakeSmallResNet(const BackboneSpec& spec) { return std::make_shared<SmallResNet>(spec); }

}  // namespace myriad
