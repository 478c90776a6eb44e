#ifndef MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_
#define MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "worker/backbone/backbone.h"

namespace myriad {

// Writes Backbone::State() as safetensors: each tensor under its name, row-major, in its own dtype (float32, int64). The file appears
// complete or not at all. Errors: those of SafetensorsWriter, naming the path.
absl::Status SaveBackbone(const Backbone& backbone, const std::map<std::string, std::string>& metadata, const std::string& path);

// Sets the state of `backbone` from such a file. The file must have exactly its names, dtypes and shapes.
// Errors, naming path and tensor (the backbone is then unchanged): NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS as SafetensorsReader;
// INVALID_ARGUMENT: a tensor that is missing, has another shape or dtype, or belongs to no parameter.
absl::Status LoadBackbone(const std::string& path, Backbone* backbone);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_BACKBONE_FILE_H_
