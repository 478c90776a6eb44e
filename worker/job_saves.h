#ifndef MYRIAD_WORKER_JOB_SAVES_H_
#define MYRIAD_WORKER_JOB_SAVES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/head_saves.h"
#include "client/run_saves.h"
#include "myriad/config/v1/job.pb.h"
#include "myriad/storage/v1/save_manifest.pb.h"
#include "worker/collectives.h"
#include "worker/job_data.h"
#include "worker/run_saver.h"

namespace myriad {

// What a job, its data and its shards make of saves.

// Images of all data sets.
int64_t ImageCount(const JobData& data);

// How long shards may take to start.
constexpr absl::Duration kShardStartTimeout = absl::Seconds(60);

// Of the heads in order. `patience`: how long a shard may be unreachable.
absl::StatusOr<std::vector<std::unique_ptr<HeadSaves>>> MakeAllHeadSaves(const config::v1::JobConfig& config,
                                                                         const std::vector<std::string>& shard_addresses,
                                                                         absl::Duration patience);

// The heads as they are saved, without what opening them tells.
std::vector<SaverHead> SaverHeads(const config::v1::JobConfig& config, const JobData& data,
                                  absl::Span<const std::unique_ptr<HeadSaves>> saves, int shard_count);

// The save that rank 0 goes on from and has put in the place of the rows that the shards have, on all ranks, who call it together. Lines
// for people go to rank 0's `print`. Errors: as RestoreSave.
absl::StatusOr<storage::v1::SaveManifest> ShareSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                                    const std::function<void(const std::string&)>& print, Collectives* collectives);

// True for what ShareSave gave; false for a manifest that is empty: the run is new.
bool GoesOn(const storage::v1::SaveManifest& from);

// Whether the run saves: the same on all ranks, who call it together. A job that asks for saves (`required`) gets them or an error; another
// one whose shards keep none is told so by `print`. Errors: FAILED_PRECONDITION naming a shard that keeps none; a lost shard as a lost
// peer.
absl::StatusOr<bool> WillSave(const config::v1::TrainingConfig& config, bool required, absl::Span<const std::unique_ptr<HeadSaves>> saves,
                              const std::function<void(const std::string&)>& print, Collectives* collectives);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_SAVES_H_
