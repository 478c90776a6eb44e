#include "worker/backbone/tensor_file.h"

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/safetensors.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

TensorInfo InfoOf(const NamedTensor& entry) {
  TensorInfo info;
  info.name = entry.name;
  info.type = entry.tensor.scalar_type() == at::kLong ? TensorType::kI64 : TensorType::kF32;
  info.shape = entry.tensor.sizes().vec();
  return info;
}

}  // namespace

absl::Status SaveTensors(const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata,
                         const std::string& path) {
  std::vector<TensorInfo> infos;
  infos.reserve(tensors.size());
  for (const NamedTensor& entry : tensors) infos.push_back(InfoOf(entry));
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer = SafetensorsWriter::Create(path, infos, metadata);
  if (!writer.ok()) return writer.status();
  for (size_t i = 0; i < tensors.size(); ++i) {
    at::Tensor tensor;
    absl::Status status = GuardTorch("reading tensors", [&] { tensor = tensors[i].tensor.detach().to(at::kCPU).contiguous(); });
    if (!status.ok()) return status;
    status = (*writer)->Append(i, absl::MakeConstSpan(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()));
    if (!status.ok()) return status;
  }
  return (*writer)->Finish();
}

absl::Status LoadTensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  absl::StatusOr<std::unique_ptr<SafetensorsReader>> reader = SafetensorsReader::Open(path);
  if (!reader.ok()) return reader.status();
  std::vector<at::Tensor> loaded;
  for (const NamedTensor& entry : tensors) {
    absl::StatusOr<TensorView> view = (*reader)->Find(entry.name);
    if (!view.ok()) return absl::InvalidArgumentError(view.status().message());
    const TensorInfo expected = InfoOf(entry);
    if (view->info->type != expected.type || view->info->shape != expected.shape) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", entry.name, " is ", TensorTypeName(view->info->type), " [",
                                                     absl::StrJoin(view->info->shape, ", "), "]; expected is ",
                                                     TensorTypeName(expected.type), " [", absl::StrJoin(expected.shape, ", "), "]"));
    }
    at::Tensor tensor = at::empty(entry.tensor.sizes(), at::TensorOptions(entry.tensor.scalar_type()));
    std::memcpy(tensor.mutable_data_ptr(), view->bytes.data(), view->bytes.size());
    loaded.push_back(std::move(tensor));
  }
  if ((*reader)->tensors().size() != tensors.size()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has ", (*reader)->tensors().size(), " tensors; expected are ", tensors.size()));
  }
  return GuardTorch("setting tensors", [&] {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < tensors.size(); ++i) at::Tensor(tensors[i].tensor).copy_(loaded[i]);
  });
}

}  // namespace myriad
