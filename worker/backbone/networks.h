#ifndef MYRIAD_WORKER_BACKBONE_NETWORKS_H_
#define MYRIAD_WORKER_BACKBONE_NETWORKS_H_

#include <memory>

#include <torch/nn/module.h>

#include "worker/backbone/backbone.h"

namespace myriad {

// A torch module with one forward pass; what MakeBackbone wraps. Methods may throw c10::Error.
class Network : public torch::nn::Module {
 public:
  virtual torch::Tensor Embed(torch::Tensor images) = 0;
};

// Requires: `spec` in range.
std::shared_ptr<Network> MakeSmallResNet(const BackboneSpec& spec);
std::shared_ptr<Network> MakeIResNet(const BackboneSpec& spec);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_NETWORKS_H_
