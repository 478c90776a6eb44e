#ifndef MYRIAD_WORKER_JOB_HEADS_H_
#define MYRIAD_WORKER_JOB_HEADS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/head_client.h"
#include "client/head_saves.h"
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

// Opens the heads of a job (resolved) for all ranks, who call it together. A run that goes on from a save (`from`; see GoesOn) first puts
// its rows in the place of those that the shards have: `saves` are of the heads in order. `accept_mixed_steps`: also rows that an unclean
// stop of a shard left between two steps. Errors: those of HeadClient and HeadSaves, a lost shard as a lost peer where a run goes on.
absl::StatusOr<OpenHeads> OpenAllHeads(const config::v1::JobConfig& config, const std::vector<std::string>& shard_addresses,
                                       bool accept_mixed_steps, const storage::v1::SaveManifest& from,
                                       absl::Span<const std::unique_ptr<HeadSaves>> saves, Collectives* collectives);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_HEADS_H_
