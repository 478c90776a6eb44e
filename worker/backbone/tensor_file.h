#ifndef MYRIAD_WORKER_BACKBONE_TENSOR_FILE_H_
#define MYRIAD_WORKER_BACKBONE_TENSOR_FILE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/backbone/backbone.h"

namespace myriad {

// Writes tensors as safetensors: each under its name, row-major, in its own dtype (float32, int64). The file appears complete or not at
// all. Errors: those of SafetensorsWriter, naming the path.
absl::Status SaveTensors(const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata,
                         const std::string& path);

// Sets `tensors`, in place, from such a file. The file must have exactly their names, dtypes and shapes.
// Errors, naming path and tensor (nothing is changed then): NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS as SafetensorsReader; INVALID_ARGUMENT:
// a tensor that is missing, has another shape or dtype, or was not asked for.
absl::Status LoadTensors(const std::string& path, const std::vector<NamedTensor>& tensors);

}  // namespace myriad

#endif  // MYRIAD_WORKER_BACKBONE_TENSOR_FILE_H_
