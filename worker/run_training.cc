#include "worker/run_training.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/Context.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "head/counter_random.h"
#include "worker/peer_watch.h"
#include "worker/raised.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

double SecondsSince(int64_t start_ns) { return static_cast<double>(Trace::Now() - start_ns) * 1e-9; }

// Separates the random numbers of LibTorch from other uses of the seed.
constexpr uint64_t kTorchPurpose = 0x746f726368;

// Whether a multiple of `every` epochs is passed by the step that ends at `done_steps`.
bool IsDue(double every, int64_t done_steps, int64_t steps_per_epoch) {
  const double period = every * static_cast<double>(steps_per_epoch);
  return std::floor(static_cast<double>(done_steps) / period) > std::floor(static_cast<double>(done_steps - 1) / period);
}

class TrainingLoop {
 public:
  TrainingLoop(const TrainingParts& parts, const TrainingOptions& options)
      : parts_(parts),
        options_(options),
        total_(options.schedule.total_steps),
        steps_per_epoch_(parts.reader->steps_per_epoch()),
        window_(options.start.window),
        skipped_(options.start.skipped) {
    for (const StepHead& head : parts_.step.heads) head_names_.push_back(head.name);
  }

  absl::StatusOr<TrainingResult> Run() {
    TrainingResult result;
    result.steps = options_.start.steps;
    if (options_.start.unverified) {
      if (absl::Status status = VerifyIfDue(result.steps); !status.ok()) return status;
    }
    while (result.steps < total_ && !result.stopped) {
      absl::StatusOr<bool> stopped = Step(result.steps);
      if (!stopped.ok()) return stopped.status();
      result.stopped = *stopped;
      ++result.steps;
      absl::Status status = AfterStep(result.steps, result.stopped);
      if (!status.ok()) return status;
    }
    result.skipped = skipped_;
    result.first_verification = first_accuracy_;
    return result;
  }

 private:
  // True when some rank asked for a stop.
  absl::StatusOr<bool> Step(int64_t step) {
    const int64_t start = Trace::Now();
    if (parts_.stop != nullptr && parts_.stop->load() && !asked_to_stop_) {
      asked_to_stop_ = true;
      absl::Status status = parts_.step.collectives->RequestStop();
      if (!status.ok()) return status;
    }
    absl::StatusOr<Batch> read = parts_.reader->Next();
    if (!read.ok()) return read.status();
    const double wait_data_seconds = SecondsSince(start);

    StepBatch batch;
    batch.images = std::move(read->images);
    batch.labels = std::move(read->labels);
    batch.heads = HeadsOf(read->sources);
    const int64_t ahead = std::min<int64_t>(options_.look_ahead_steps, total_ - step - 1);
    for (ComingBatch& next : parts_.reader->Coming(static_cast<int>(ahead))) {
      batch.coming.push_back({std::move(next.labels), HeadsOf(next.sources)});
    }
    const double learning_rate = LearningRate(options_.schedule, step);
    // What the network draws (dropout) follows from (seed, rank, step): nothing of a generator's past needs saving.
    absl::Status status = GuardTorch("seeding LibTorch", [&] {
      at::manual_seed(StreamKey(options_.seed, kTorchPurpose, static_cast<uint64_t>(parts_.step.collectives->rank()), step));
    });
    if (!status.ok()) return status;
    absl::StatusOr<StepFigures> figures = TrainingStep(parts_.step, options_.step, batch, step, learning_rate);
    if (!figures.ok()) return figures.status();
    // The heads count the images of all ranks; what a batch lacks was skipped by some rank.
    int64_t skipped = parts_.reader->batch_size();
    for (const HeadFigures& head : figures->heads) skipped -= head.sample_count;
    skipped_ += skipped;
    window_.Add(*figures, learning_rate, SecondsSince(start), wait_data_seconds, skipped);
    return figures->stop_requested;
  }

  absl::Status AfterStep(int64_t done, bool stopped) {
    const bool last = done == total_;
    absl::Status status = absl::OkStatus();
    if (done % options_.log_every_steps == 0 || last) status = Report(done);
    if (status.ok() && !stopped) status = VerifyIfDue(done);
    const bool save_due = options_.save_every_steps > 0 && done % options_.save_every_steps == 0;
    if (status.ok() && (save_due || last || stopped)) {
      status = Save(done, /*unverified=*/stopped);
      // A full disk, say, may have room by the next time; a run that went on so far is not ended for it.
      if (!status.ok() && !IsPeerLost(status) && !last && !stopped) {
        if (parts_.print) parts_.print(absl::StrCat("no save after step ", done, ": ", status.message(), "; the run goes on"));
        status = absl::OkStatus();
      }
    }
    if (status.ok() && stopped && window_.steps() > 0) status = Report(done);
    return status;
  }

  absl::Status Save(int64_t done, bool unverified) {
    if (!parts_.save) return absl::OkStatus();
    const Raised at_leisure(parts_.at_leisure);
    RunPosition position;
    position.steps = done;
    position.skipped = skipped_;
    position.window = window_;
    position.unverified = unverified;
    if (parts_.metrics != nullptr) {
      absl::StatusOr<int64_t> bytes = parts_.metrics->Size();
      if (!bytes.ok()) return bytes.status();
      position.metrics_bytes = *bytes;
    }
    return parts_.save(position);
  }

  std::vector<int32_t> HeadsOf(const std::vector<int32_t>& sources) const {
    std::vector<int32_t> heads;
    heads.reserve(sources.size());
    for (int32_t source : sources) heads.push_back(parts_.head_of_source[source]);
    return heads;
  }

  absl::Status Report(int64_t done) {
    absl::Status status = absl::OkStatus();
    if (parts_.print) parts_.print(ProgressLine(window_, done, total_, steps_per_epoch_));
    if (parts_.metrics != nullptr) status = parts_.metrics->WriteSteps(window_, head_names_, done, EpochOf(done));
    window_ = StepWindow();
    return status;
  }

  absl::Status VerifyIfDue(int64_t done) {
    const bool last = done == total_;
    bool any = false;
    const Raised at_leisure(parts_.at_leisure);
    for (size_t v = 0; v < parts_.verifications.size(); ++v) {
      const ScheduledVerification& verification = parts_.verifications[v];
      if (!last && !IsDue(verification.every_epochs, done, steps_per_epoch_)) continue;
      any = true;
      if (parts_.step.collectives->rank() != 0) continue;
      const int64_t start = Trace::Now();
      absl::StatusOr<VerificationMetrics> metrics = Verify(*verification.set, options_.embed, parts_.step.backbone);
      if (!metrics.ok()) return metrics.status();
      if (v == 0) first_accuracy_ = metrics->accuracy;
      if (parts_.print) parts_.print(VerificationLine(verification.set->name, *metrics));
      if (parts_.metrics != nullptr) {
        absl::Status status = parts_.metrics->WriteVerification(verification.set->name, *metrics, done, EpochOf(done), SecondsSince(start));
        if (!status.ok()) return status;
      }
    }
    return any ? parts_.step.collectives->Barrier() : absl::OkStatus();
  }

  double EpochOf(int64_t done) const { return static_cast<double>(done) / static_cast<double>(steps_per_epoch_); }

  const TrainingParts& parts_;
  const TrainingOptions& options_;
  const int64_t total_;
  const int64_t steps_per_epoch_;
  std::vector<std::string> head_names_;
  StepWindow window_;
  int64_t skipped_ = 0;
  bool asked_to_stop_ = false;
  std::optional<double> first_accuracy_;
};

}  // namespace

absl::StatusOr<TrainingResult> RunTraining(const TrainingParts& parts, const TrainingOptions& options) {
  return TrainingLoop(parts, options).Run();
}

}  // namespace myriad
