// Writes what a network computes, for a program that defines the same network in Python:
//   backbone_dump iresnet|small_resnet DEPTH IMAGE_SIZE CHANNELS DIM BATCH FOLDER
// initial.safetensors: the state as made. values.safetensors: `images`, then `trained`, the embeddings of a forward pass in training mode,
// and `evaluated`, those of one in evaluation mode after it. after.safetensors: the state at the end (running statistics have moved).
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "client/safetensors.h"
#include "worker/backbone/backbone.h"
#include "worker/backbone/backbone_file.h"

namespace myriad {
namespace {

absl::Status WriteTensors(const std::vector<NamedTensor>& tensors, const std::string& path) {
  std::vector<TensorInfo> infos;
  for (const NamedTensor& entry : tensors) infos.push_back({entry.name, TensorType::kF32, entry.tensor.sizes().vec()});
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(path, infos, {});
  if (!writer.ok()) return writer.status();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor values = tensors[i].tensor.contiguous();
    const absl::Status status = (*writer)->Append(i, AsBytes(absl::MakeConstSpan(values.data_ptr<float>(), values.numel())));
    if (!status.ok()) return status;
  }
  return (*writer)->Finish();
}

absl::Status Dump(const BackboneSpec& spec, int batch, const std::string& folder) {
  absl::StatusOr<std::unique_ptr<Backbone>> backbone = MakeBackbone(spec, /*seed=*/11);
  if (!backbone.ok()) return backbone.status();
  absl::Status status = SaveBackbone(**backbone, {}, folder + "/initial.safetensors");
  if (!status.ok()) return status;
  at::NoGradGuard no_grad;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  at::Tensor images = at::empty({batch, spec.channels, spec.image_size, spec.image_size});
  images.uniform_(-1.0, 1.0, generator);
  const absl::StatusOr<at::Tensor> trained = (*backbone)->Forward(images);
  if (!trained.ok()) return trained.status();
  (*backbone)->SetTraining(false);
  const absl::StatusOr<at::Tensor> evaluated = (*backbone)->Forward(images);
  if (!evaluated.ok()) return evaluated.status();
  status = WriteTensors({{"images", images}, {"trained", *trained}, {"evaluated", *evaluated}}, folder + "/values.safetensors");
  if (!status.ok()) return status;
  return SaveBackbone(**backbone, {}, folder + "/after.safetensors");
}

}  // namespace
}  // namespace myriad

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "usage: backbone_dump iresnet|small_resnet DEPTH IMAGE_SIZE CHANNELS DIM BATCH FOLDER\n");
    return 2;
  }
  myriad::BackboneSpec spec;
  spec.network = std::string(argv[1]) == "iresnet" ? myriad::BackboneSpec::Network::kIResNet : myriad::BackboneSpec::Network::kSmallResNet;
  spec.depth = std::atoi(argv[2]);
  spec.image_size = std::atoi(argv[3]);
  spec.channels = std::atoi(argv[4]);
  spec.embedding_dim = std::atoi(argv[5]);
  const absl::Status status = myriad::Dump(spec, std::atoi(argv[6]), argv[7]);
  if (!status.ok()) {
    std::fprintf(stderr, "backbone_dump: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
