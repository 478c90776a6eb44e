#ifndef MYRIAD_WORKER_TRAIN_JOB_H_
#define MYRIAD_WORKER_TRAIN_JOB_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/collectives.h"

namespace myriad {

// `myriad-worker train`: one rank of a run, from a job configuration to a run folder.
struct TrainJobOptions {
  std::string config_path;
  std::string run_dir;
  std::string store;  // Folder of the shards' rows, beside which the heads' catalogues lie; "": not known here, they lie in the run folder.
  std::vector<std::string> shard_addresses;
  std::string device = "auto";
  int threads = 1;                  // Of the backbone's arithmetic, >= 1.
  int verification_threads = 1;     // The same while rank 0 verifies and the machine's other workers wait.
  bool trace = false;               // Writes what ran when to the run folder.
  bool resume = false;              // Goes on from the newest save of the run folder.
  bool accept_mixed_steps = false;  // Trains on from rows that an unclean stop of a shard left between two steps.
  RankInfo rank;
  const std::atomic<bool>* stop = nullptr;
  std::atomic<bool>* at_leisure = nullptr;                // See TrainingParts.
  std::function<void(const absl::Status&)> on_peer_lost;  // See Collectives::Options.
  std::function<void(const std::string&)> print;          // Lines for people; used by rank 0.
};

// Runs the job. Errors: CANCELLED when `stop` ended the run, which is saved if its job keeps saves and its shards can; a PeerLostError;
// FAILED_PRECONDITION: the run folder has the results of another run, or, with `resume`, what RestoreSave refuses; the shards have rows of
// which nobody says which class is whose; others as one line for the user.
absl::Status RunTrainJob(const TrainJobOptions& options);

}  // namespace myriad

#endif  // MYRIAD_WORKER_TRAIN_JOB_H_
