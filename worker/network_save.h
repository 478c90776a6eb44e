#ifndef MYRIAD_WORKER_NETWORK_SAVE_H_
#define MYRIAD_WORKER_NETWORK_SAVE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/backbone/backbone.h"
#include "worker/collectives.h"
#include "worker/sgd.h"

namespace myriad {

// The network's part of a save. Files, written and read by rank 0 alone:
//   backbone.safetensors    Backbone::State() of rank 0
//   optimizer.safetensors   the momentum of each parameter under its name; no such file without momentum
//   statistics.safetensors  BatchNorm's running statistics of all ranks, R x shape, under their names; no such file with one rank
struct NetworkParts {
  Backbone* backbone = nullptr;
  BackboneSgd* optimizer = nullptr;
  Collectives* collectives = nullptr;
};

// All ranks call it together. Returns the names of the files in `folder`; "": nothing is written, as on all ranks but 0. Errors: those of
// SaveTensors, after which the ranks are still together, and of Collectives.
absl::StatusOr<std::vector<std::string>> SaveNetwork(const NetworkParts& parts, const std::string& folder);

// All ranks call it together: each has then what it had when `rank_count` ranks saved; a rank beyond those has rank 0's statistics.
// Errors: those of LoadTensors and of Collectives.
absl::Status LoadNetwork(const NetworkParts& parts, const std::string& folder, int rank_count);

}  // namespace myriad

#endif  // MYRIAD_WORKER_NETWORK_SAVE_H_
