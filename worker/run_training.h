#ifndef MYRIAD_WORKER_RUN_TRAINING_H_
#define MYRIAD_WORKER_RUN_TRAINING_H_

#include <atomic>
#include <cstdint>
#include <functional>
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

// What a run works on. All pointers are borrowed.
struct TrainingParts {
  StepParts step;
  BatchReader* reader = nullptr;
  std::vector<int> head_of_source;                   // Index into step.heads of each source of the reader.
  std::vector<ScheduledVerification> verifications;  // The same number on all ranks.
  MetricsLog* metrics = nullptr;                     // Rank 0's; else null.
  std::function<void(const std::string&)> print;     // Rank 0's lines for people; else null.
  const std::atomic<bool>* stop = nullptr;           // Set by a signal: the run ends after the step.
};

struct TrainingOptions {
  StepOptions step;
  Schedule schedule;  // Its total_steps is the length of the run.
  uint64_t seed = 0;  // Of what the network draws.
  int log_every_steps = 20;
  EmbedOptions embed;
};

struct TrainingResult {
  int64_t steps = 0;                // Taken by this run.
  bool stopped = false;             // By `stop` on some rank: the same on all ranks.
  int64_t skipped = 0;              // Images that could not be read, over all ranks; again in every epoch.
  double first_verification = 0.0;  // The last accuracy of the first verification; rank 0, if there is one.
};

// Trains for schedule.total_steps steps, or until some rank is told to stop. Rank 0 verifies while the other ranks wait in a barrier.
// Errors: those of the reader, of TrainingStep, of Verify and of the metrics file. After an error the run cannot go on.
absl::StatusOr<TrainingResult> RunTraining(const TrainingParts& parts, const TrainingOptions& options);

}  // namespace myriad

#endif  // MYRIAD_WORKER_RUN_TRAINING_H_
