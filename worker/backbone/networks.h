#ifndef MYRIAD_WORKER_BACKBONE_NETWORKS_H_
#define MYRIAD_WORKER_BACKBONE_NETWORKS_H_

#include <cstdint>
#include <memory>

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "worker/backbone/backbone.h"

namespace myriad {

// A torch module with one forward pass; what MakeBackbone wraps. All end in the same tail: bn2 - flatten - dropout - fc - features, where
// the flattened map keeps where things are, which a global pool would throw away. Methods may throw c10::Error.
class Network : public torch::nn::Module {
 public:
  virtual torch::Tensor Embed(torch::Tensor images) = 0;

 protected:
  // Registers the tail for a map of `channels` x `side` x `side`: to be called last, for its place in the state_dict.
  void RegisterTail(const BackboneSpec& spec, int64_t channels, int64_t side, double dropout);
  // The embeddings, B x spec.embedding_dim, float32: `fc` computes in float32 under autocast too.
  torch::Tensor Tail(const torch::Tensor& map);

 private:
  torch::nn::BatchNorm2d bn2_{nullptr};
  torch::nn::Dropout dropout_{nullptr};
  torch::nn::Linear fc_{nullptr};
  torch::nn::BatchNorm1d features_{nullptr};
};

// Requires: `spec` in range.
std::shared_ptr<Network> MakeSmallResNet(const BackboneSpec& spec);
std::shared_ptr<Network> MakeIResNet(const BackboneSpec& spec);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_NETWORKS_H_
