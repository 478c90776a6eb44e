#ifndef MYRIAD_WORKER_JOB_HEADS_H_
#define MYRIAD_WORKER_JOB_HEADS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/head_client.h"
#include "myriad/config/v1/job.pb.h"
#include "myriad/storage/v1/save_manifest.pb.h"
#include "worker/collectives.h"
#include "worker/training_step.h"

namespace myriad {

// The heads of a run, open at all shards.
struct OpenHeads {
  std::vector<std::unique_ptr<HeadClient>> clients;
  std::vector<StepHead> heads;
  std::vector<int64_t> incarnations;
};

// Says whether a new run may train the rows that the shards have of a head of the configuration.
using HeadCheck = std::function<absl::Status(int head, const HeadOnShards& found)>;

// Opens the heads of a job (resolved) for all ranks, who call it together: at the steps of the save `from` where the run goes on from one
// (see GoesOn), else after rank 0's `check`. `accept_mixed_steps`: also rows that an unclean stop of a shard left between two steps.
// Errors: those of HeadClient and of `check`.
absl::StatusOr<OpenHeads> OpenAllHeads(const config::v1::JobConfig& config, const std::vector<std::string>& shard_addresses,
                                       bool accept_mixed_steps, const storage::v1::SaveManifest& from, const HeadCheck& check,
                                       Collectives* collectives);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_HEADS_H_
