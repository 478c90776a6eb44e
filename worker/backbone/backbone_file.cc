#include "worker/backbone/backbone_file.h"

#include "worker/backbone/tensor_file.h"

namespace myriad {

absl::Status SaveBackbone(const Backbone& backbone, const std::map<std::string, std::string>& metadata, const std::string& path) {
  return SaveTensors(backbone.State(), metadata, path);
}

absl::Status LoadBackbone(const std::string& path, Backbone* backbone) { return LoadTensors(path, backbone->State()); }

}  // namespace myriad
