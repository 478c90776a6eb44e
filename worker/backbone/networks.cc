#include "worker/backbone/networks.h"

#include <ATen/Functions.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "worker/backbone/layers.h"

namespace myriad {

void Network::RegisterTail(const BackboneSpec& spec, int64_t channels, int64_t side, double dropout) {
  bn2_ = register_module("bn2", Norm(channels));
  dropout_ = register_module("dropout", torch::nn::Dropout(torch::nn::DropoutOptions(dropout)));
  fc_ = register_module("fc", torch::nn::Linear(channels * side * side, spec.embedding_dim));
  features_ = register_module("features", torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(spec.embedding_dim).eps(1e-5)));
  // The scale of an embedding means nothing once it is normalised: fixed at 1.
  features_->weight.set_requires_grad(false);
}

torch::Tensor Network::Tail(const torch::Tensor& map) {
  // As users of PyTorch flatten it, whatever the layout in memory: weights can be exchanged.
  const torch::Tensor flat = dropout_(at::flatten(bn2_(map).contiguous(), 1));
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return features_(fc_(flat.to(at::kFloat)));
}

}  // namespace myriad
