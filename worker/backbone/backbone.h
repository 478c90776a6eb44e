#ifndef MYRIAD_WORKER_BACKBONE_BACKBONE_H_
#define MYRIAD_WORKER_BACKBONE_BACKBONE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

// Which network, and its shape.
struct BackboneSpec {
  enum class Network {
    kSmallResNet,  // For images of 32 to 64 pixels.
    kIResNet,      // Improved ResNet (arXiv:2004.04989) as used for faces.
  };
  Network network = Network::kSmallResNet;
  int width = 16;           // kSmallResNet: channels of the first stage, in [4, 512].
  int depth = 50;           // kIResNet: 18, 34, 50 or 100.
  double dropout = 0.0;     // kIResNet: before the last layer, in [0, 1).
  int embedding_dim = 128;  // D.
  int image_size = 48;      // Side in pixels, in [16, 1024].
  int channels = 1;         // 1 or 3.
};

struct NamedTensor {
  std::string name;
  at::Tensor tensor;  // Shares its memory with the network.
};

// A network from images to embeddings. Thread-compatible.
class Backbone {
 public:
  virtual ~Backbone() = default;

  // `images` B x channels x image_size x image_size float32 on the network's device -> embeddings B x D float32, not normalised. In
  // training mode BatchNorm uses the batch's statistics and moves its running ones: B must be at least 2, else INVALID_ARGUMENT.
  // INTERNAL or RESOURCE_EXHAUSTED for what LibTorch reports.
  virtual absl::StatusOr<at::Tensor> Forward(const at::Tensor& images) = 0;

  virtual void SetTraining(bool training) = 0;
  virtual absl::Status MoveTo(const at::Device& device) = 0;

  // The parameters that train, in the order of State().
  virtual std::vector<NamedTensor> Parameters() const = 0;
  // Parameters and buffers with the names and in the order of PyTorch's state_dict().
  virtual std::vector<NamedTensor> State() const = 0;
};

// Makes the network with weights drawn from `seed` alone, on the CPU, in training mode.
// Errors: INVALID_ARGUMENT naming the field of `spec` that is out of range.
absl::StatusOr<std::unique_ptr<Backbone>> MakeBackbone(const BackboneSpec& spec, uint64_t seed);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_BACKBONE_H_
