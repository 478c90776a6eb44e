#ifndef MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_
#define MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "worker/backbone/backbone.h"

namespace myriad {

// Writes Backbone::State(). As SaveTensors.
absl::Status SaveBackbone(const Backbone& backbone, const std::map<std::string, std::string>& metadata, const std::string& path);

// Sets the state of `backbone` from such a file. As LoadTensors.
absl::Status LoadBackbone(const std::string& path, Backbone* backbone);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_
