#ifndef MYRIAD_WORKER_RUN_TRAINING_H_
#define MYRIAD_WORKER_RUN_TRAINING_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/batch_reader.h"
#include "worker/progress.h"
#include "worker/schedule.h"
#include "worker/training_step.h"
#include "worker/verification.h"

namespace myriad {

// One verification of the run.
struct ScheduledVerification {
  const VerificationSet* set = nullptr;  // Borrowed. Only rank 0 needs one.
  double every_epochs = 1.0;             // > 0. One follows the last step in any case.
};

// Where a run stands between two steps, beside its network, its optimizer and its heads.
struct RunPosition {
  int64_t steps = 0;          // Taken.
  int64_t skipped = 0;        // Images that could not be read, over all ranks; again in every epoch.
  StepWindow window;          // Of the steps since the last line of the metrics.
  int64_t metrics_bytes = 0;  // Length of the metrics file; rank 0's.
  bool unverified = false;    // A stop left out the verifications that follow the last step.
};

// What a run works on. All pointers are borrowed.
struct TrainingParts {
  StepParts step;
  BatchReader* reader = nullptr;
  std::vector<int> head_of_source;                   // Index into step.heads of each source of the reader.
  std::vector<ScheduledVerification> verifications;  // The same number on all ranks.
  MetricsLog* metrics = nullptr;                     // Rank 0's; else null.
  std::function<void(const std::string&)> print;     // Rank 0's lines for people; else null.
  const std::atomic<bool>* stop = nullptr;           // Set by a signal: the run ends after the step.
  std::atomic<bool>* at_leisure = nullptr;           // If given, set while the ranks verify or save: that may take longer than a step.
  // Saves the run. Called by all ranks after the same step: every `save_every_steps`, the last one, and the one that a stop ends with.
  // Null: nothing is saved. After an error that is no PeerLostError all ranks are where they were, and the run goes on if it is not at its
  // end: the next save may do better.
  std::function<absl::Status(const RunPosition&)> save;
};

struct TrainingOptions {
  StepOptions step;
  Schedule schedule;  // Its total_steps is the length of the run.
  RunPosition start;  // Where a save was made that the run goes on from; the reader is there too.
  uint64_t seed = 0;  // Of what the network draws.
  int log_every_steps = 20;
  int64_t save_every_steps = 0;  // 0: none but the last and that of a stop.
  int look_ahead_steps = 0;      // How many steps beforehand the heads are told the labels.
  EmbedOptions embed;
};

struct TrainingResult {
  int64_t steps = 0;                         // Taken, those before `start` too.
  bool stopped = false;                      // By `stop` on some rank: the same on all ranks.
  int64_t skipped = 0;                       // As RunPosition.
  std::optional<double> first_verification;  // The last accuracy of the first verification; rank 0, if there was one.
};

// Trains from `start` up to schedule.total_steps steps, or until some rank is told to stop. Rank 0 verifies while the other ranks wait in a
// barrier. The lines of a stop come after its save, so that a run that goes on from it writes the lines of one that was never stopped.
// Errors: those of the reader, of TrainingStep, of Verify, of the metrics file and of the save that the run ends with. After an error the
// run cannot go on.
absl::StatusOr<TrainingResult> RunTraining(const TrainingParts& parts, const TrainingOptions& options);

}  // namespace myriad

#endif  // MYRIAD_WORKER_RUN_TRAINING_H_
