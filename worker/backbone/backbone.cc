#include "worker/backbone/backbone.h"

#include <cmath>
#include <utility>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/backbone_limits.h"
#include "worker/backbone/networks.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

// oneDNN convolves images whose channels lie together without reordering them: 1.35 times the images a second of the small network.
constexpr at::MemoryFormat kMemoryFormat = at::MemoryFormat::ChannelsLast;

absl::Status Validate(const BackboneSpec& spec) {
  const auto in_range = [](const char* field, int value, SizeRange range) {
    if (value >= range.low && value <= range.high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("backbone ", field, " is ", value, "; it must be in [", range.low, ", ", range.high, "]"));
  };
  absl::Status status = in_range("embedding_dim", spec.embedding_dim, kEmbeddingDims);
  if (status.ok()) status = in_range("image_size", spec.image_size, kImageSizes);
  if (status.ok() && spec.channels != 1 && spec.channels != 3) {
    status = absl::InvalidArgumentError(absl::StrCat("backbone channels is ", spec.channels, "; it must be 1 or 3"));
  }
  if (status.ok() && spec.network == BackboneSpec::Network::kSmallResNet)
    status = in_range("small_resnet.width", spec.width, kSmallResNetWidths);
  if (status.ok() && spec.network == BackboneSpec::Network::kIResNet) {
    if (spec.depth != 18 && spec.depth != 34 && spec.depth != 50 && spec.depth != 100) {
      status = absl::InvalidArgumentError(absl::StrCat("backbone iresnet.depth is ", spec.depth, "; it must be 18, 34, 50 or 100"));
    } else if (!(spec.dropout >= 0.0 && spec.dropout < 1.0)) {
      status = absl::InvalidArgumentError(absl::StrCat("backbone iresnet.dropout is ", spec.dropout, "; it must be in [0, 1)"));
    }
  }
  return status;
}

// A state_dict: of each module its own parameters, its own buffers, then its children.
void AppendState(const torch::nn::Module& module, const std::string& prefix, std::vector<NamedTensor>* state) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) state->push_back({prefix + parameter.key(), parameter.value()});
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) state->push_back({prefix + buffer.key(), buffer.value()});
  for (const auto& child : module.named_children()) AppendState(*child.value(), prefix + child.key() + ".", state);
}

// Draws the weights in the order of the state, from one generator. Convolutions: He's normal distribution by fan-out for the small
// network, deviation 0.1 for iResNet as in its Python definition. Linear: uniform within 1/sqrt(fan-in), torch's default. BatchNorm and
// PReLU keep torch's constants (1, 0, 0.25).
void DrawWeights(const BackboneSpec& spec, uint64_t seed, const std::vector<NamedTensor>& state) {
  at::NoGradGuard no_grad;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  double linear_bound = 0.0;
  for (const NamedTensor& entry : state) {
    at::Tensor tensor = entry.tensor;
    if (tensor.dim() == 4) {
      const double fan_out = static_cast<double>(tensor.size(0) * tensor.size(2) * tensor.size(3));
      tensor.normal_(0.0, spec.network == BackboneSpec::Network::kIResNet ? 0.1 : std::sqrt(2.0 / fan_out), generator);
    } else if (tensor.dim() == 2) {
      linear_bound = 1.0 / std::sqrt(static_cast<double>(tensor.size(1)));
      tensor.uniform_(-linear_bound, linear_bound, generator);
    } else if (entry.name == "fc.bias") {
      tensor.uniform_(-linear_bound, linear_bound, generator);
    }
  }
}

class NetworkBackbone : public Backbone {
 public:
  NetworkBackbone(const BackboneSpec& spec, std::shared_ptr<Network> network) : spec_(spec), network_(std::move(network)) {}

  absl::StatusOr<at::Tensor> Forward(const at::Tensor& images) override {
    if (images.dim() != 4 || images.size(1) != spec_.channels || images.size(2) != spec_.image_size || images.size(3) != spec_.image_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("images are not B x ", spec_.channels, " x ", spec_.image_size, " x ", spec_.image_size));
    }
    if (network_->is_training() && images.size(0) < 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("a training batch of ", images.size(0), " images has no batch statistics; it needs 2"));
    }
    return GuardTorchValue<at::Tensor>("backbone forward", [&] { return network_->Embed(images.contiguous(kMemoryFormat)); });
  }

  void SetTraining(bool training) override { network_->train(training); }

  absl::Status MoveTo(const at::Device& device) override {
    return GuardTorch("moving the backbone to its device", [&] { network_->to(device); });
  }

  std::vector<NamedTensor> Parameters() const override {
    std::vector<NamedTensor> parameters;
    for (NamedTensor& entry : State()) {
      if (entry.tensor.requires_grad()) parameters.push_back(std::move(entry));
    }
    return parameters;
  }

  std::vector<NamedTensor> State() const override {
    std::vector<NamedTensor> state;
    AppendState(*network_, "", &state);
    return state;
  }

 private:
  const BackboneSpec spec_;
  const std::shared_ptr<Network> network_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backbone>> MakeBackbone(const BackboneSpec& spec, uint64_t seed) {
  absl::Status status = Validate(spec);
  if (!status.ok()) return status;
  std::unique_ptr<NetworkBackbone> backbone;
  status = GuardTorch("making the backbone", [&] {
    std::shared_ptr<Network> network = spec.network == BackboneSpec::Network::kIResNet ? MakeIResNet(spec) : MakeSmallResNet(spec);
    backbone = std::make_unique<NetworkBackbone>(spec, network);
    DrawWeights(spec, seed, backbone->State());
    for (torch::Tensor& parameter : network->parameters()) {
      // A copy, for contiguous() would leave a 1 x 1 kernel with strides that its gradient does not have, and every bucket would copy.
      if (parameter.dim() == 4) parameter.set_data(at::empty_like(parameter, at::TensorOptions(), kMemoryFormat).copy_(parameter.data()));
    }
    network->train();
  });
  if (!status.ok()) return status;
  return backbone;
}

}  // namespace myriad
