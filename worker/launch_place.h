#ifndef MYRIAD_WORKER_LAUNCH_PLACE_H_
#define MYRIAD_WORKER_LAUNCH_PLACE_H_

#include <functional>

#include "absl/status/statusor.h"
#include "worker/collectives.h"

namespace myriad {

// What the launcher tells a worker of its place.
struct LaunchPlace {
  RankInfo rank;
  int local_rank_count = 1;  // Workers of this machine.
};

// Reads torchrun's environment (docs/formats.md), which `myriad train` sets too, by `get`: the value of a variable, or null. What it does
// not say stays as in `rank`: with the default, the one rank of a run of one. Errors: INVALID_ARGUMENT naming variable, value and range.
absl::StatusOr<LaunchPlace> ReadLaunchPlace(const std::function<const char*(const char*)>& get, const RankInfo& rank = {});

}  // namespace myriad

#endif  // MYRIAD_WORKER_LAUNCH_PLACE_H_
