#ifndef MYRIAD_CLIENT_BENCH_CHECK_H_
#define MYRIAD_CLIENT_BENCH_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "head/head_spec.h"

namespace myriad {

// Before anything is timed: three steps of a tiny head of its own on these shards, at the given placement, against plain float64 loops over
// the same rows. Loss, embedding gradients and rows must agree. Errors: INTERNAL naming what differs and by how much; those of HeadClient.
absl::Status CheckSmallSteps(const std::vector<std::string>& shard_addresses, Placement placement);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BENCH_CHECK_H_
