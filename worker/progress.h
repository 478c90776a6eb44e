#ifndef MYRIAD_WORKER_PROGRESS_H_
#define MYRIAD_WORKER_PROGRESS_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "myriad/storage/v1/save_manifest.pb.h"
#include "worker/training_step.h"
#include "worker/verification_metrics.h"

namespace myriad {

// "4m10s", "1h02m", "7s". Seconds below 0 count as 0.
std::string FormatDuration(double seconds);

// Means of the steps since the last report.
class StepWindow {
 public:
  // `wall_seconds` from the step's start to its end; `wait_data_seconds` of them without a batch; `skipped` images of the step, over all
  // ranks, that could not be read.
  void Add(const StepFigures& figures, double learning_rate, double wall_seconds, double wait_data_seconds, int64_t skipped);
  int64_t steps() const { return steps_; }
  double step_seconds() const { return steps_ > 0 ? wall_seconds_ / static_cast<double>(steps_) : 0.0; }
  double images_per_second() const { return wall_seconds_ > 0 ? static_cast<double>(images_) / wall_seconds_ : 0.0; }
  double loss() const { return steps_ > 0 ? loss_ / static_cast<double>(steps_) : 0.0; }
  // Mean cosine of x_i and w_{y_i} over all heads' samples with a target.
  double target_cosine() const { return targets_ > 0 ? cosine_sum_ / static_cast<double>(targets_) : 0.0; }

  // All of it, for a save: what comes back adds up to the same bits.
  storage::v1::StepWindow ToProto() const;
  static StepWindow FromProto(const storage::v1::StepWindow& message);

 private:
  friend class MetricsLog;
  int64_t steps_ = 0;
  int64_t images_ = 0;
  int64_t targets_ = 0;
  int64_t skipped_ = 0;
  int64_t degenerate_ = 0;
  int64_t wire_bytes_ = 0;
  double loss_ = 0.0;
  double cosine_sum_ = 0.0;
  double learning_rate_ = 0.0;  // Of the last step.
  double gradient_norm_ = 0.0;  // Sum.
  double wall_seconds_ = 0.0;
  double wait_data_seconds_ = 0.0;
  double forward_seconds_ = 0.0;
  double wait_head_seconds_ = 0.0;
  double backward_seconds_ = 0.0;
  double optimizer_seconds_ = 0.0;
  RowSources row_sources_;          // Sums.
  std::vector<HeadFigures> heads_;  // Sums; row_count too.
};

// "step 120/1248  epoch 0.77/8  loss 12.345  cosine 0.312  312 images/s  ETA 4m10s"
std::string ProgressLine(const StepWindow& window, int64_t done_steps, int64_t total_steps, int64_t steps_per_epoch);

// "verification NAME accuracy 0.9832 +- 0.0040 TAR@FAR=0.01 0.9512"
std::string VerificationLine(const std::string& name, const VerificationMetrics& metrics);

// metrics.jsonl (docs/formats.md): one JSON object a line, complete lines only. Not thread-safe.
class MetricsLog {
 public:
  // Appends to the file. Bytes of a name that are no UTF-8 are written as U+FFFD. Errors: those of the system, naming the path.
  static absl::StatusOr<MetricsLog> Open(const std::string& path);
  // The same behind the first `bytes`: what follows them is cut off.
  static absl::StatusOr<MetricsLog> OpenBehind(const std::string& path, int64_t bytes);

  // The file's length.
  absl::StatusOr<int64_t> Size() const;

  absl::Status WriteSteps(const StepWindow& window, const std::vector<std::string>& head_names, int64_t done_steps, double epoch);
  absl::Status WriteVerification(const std::string& name, const VerificationMetrics& metrics, int64_t done_steps, double epoch,
                                 double seconds);

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  MetricsLog(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}
  absl::Status WriteLine(const std::string& line);

  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_PROGRESS_H_
