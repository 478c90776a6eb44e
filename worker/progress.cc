#include "worker/progress.h"

#include <cerrno>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/file_util.h"

namespace myriad {
namespace {

// JSON has no infinity and no NaN.
nlohmann::json Number(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr); }

// One line. Folders, and so the names of verifications, may be called by any bytes.
std::string Text(const nlohmann::ordered_json& values) {
  return values.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string FormatDuration(double seconds) {
  const int64_t whole = std::llround(std::fmax(seconds, 0.0));
  if (whole < 60) return absl::StrCat(whole, "s");
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%dh%02dm", whole / 3600, whole % 3600 / 60);
}

void StepWindow::Add(const StepFigures& figures, double learning_rate, double wall_seconds, double wait_data_seconds, int64_t skipped) {
  ++steps_;
  loss_ += figures.loss;
  learning_rate_ = learning_rate;
  gradient_norm_ += figures.gradient_norm;
  wall_seconds_ += wall_seconds;
  wait_data_seconds_ += wait_data_seconds;
  forward_seconds_ += figures.forward_seconds;
  wait_head_seconds_ += figures.wait_head_seconds;
  backward_seconds_ += figures.backward_seconds;
  optimizer_seconds_ += figures.optimizer_seconds;
  skipped_ += skipped;
  wire_bytes_ += figures.wire_bytes;
  heads_.resize(figures.heads.size());
  for (size_t h = 0; h < heads_.size(); ++h) {
    const HeadFigures& head = figures.heads[h];
    heads_[h].loss += head.loss;
    heads_[h].sample_count += head.sample_count;
    heads_[h].target_count += head.target_count;
    heads_[h].target_cosine_sum += head.target_cosine_sum;
    heads_[h].row_count += head.row_count;
    degenerate_ += head.degenerate_count;
    row_sources_.Add(head.row_sources);
    images_ += head.sample_count;
    targets_ += head.target_count;
    cosine_sum_ += head.target_cosine_sum;
  }
}

std::string ProgressLine(const StepWindow& window, int64_t done_steps, int64_t total_steps, int64_t steps_per_epoch) {
  const double epochs = static_cast<double>(total_steps) / static_cast<double>(steps_per_epoch);
  return absl::StrFormat("step %d/%d  epoch %.2f/%.4g  loss %.3f  cosine %.3f  %.0f images/s  ETA %s", done_steps, total_steps,
                         static_cast<double>(done_steps) / static_cast<double>(steps_per_epoch), epochs, window.loss(),
                         window.target_cosine(), window.images_per_second(),
                         FormatDuration(static_cast<double>(total_steps - done_steps) * window.step_seconds()));
}

std::string VerificationLine(const std::string& name, const VerificationMetrics& metrics) {
  std::string line = absl::StrFormat("verification %s accuracy %.4f +- %.4f", name, metrics.accuracy, metrics.accuracy_deviation);
  for (const auto& [false_rate, true_rate] : metrics.true_accept_rates)
    absl::StrAppendFormat(&line, " TAR@FAR=%g %.4f", false_rate, true_rate);
  return line;
}

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return ErrnoStatus(errno, path);
  return MetricsLog(path, file);
}

absl::Status MetricsLog::WriteSteps(const StepWindow& window, const std::vector<std::string>& head_names, int64_t done_steps,
                                    double epoch) {
  const double steps = static_cast<double>(window.steps_);
  nlohmann::ordered_json line;
  line["step"] = done_steps;
  line["epoch"] = epoch;
  line["loss"] = Number(window.loss());
  line["learning_rate"] = window.learning_rate_;
  line["images_per_second"] = window.images_per_second();
  line["target_cosine"] = Number(window.target_cosine());
  line["target_count"] = window.targets_;
  line["skipped_count"] = window.skipped_;
  int64_t rows = 0;
  for (const HeadFigures& head : window.heads_) rows += head.row_count;
  line["row_count"] = static_cast<double>(rows) / steps;
  const RowSources& sources = window.row_sources_;
  const int64_t stored = sources.hits + sources.awaited + sources.misses;
  if (stored > 0) line["hit_rate"] = static_cast<double>(sources.hits) / static_cast<double>(stored);
  line["miss_count"] = static_cast<double>(sources.misses) / steps;
  line["disk_wait_seconds"] = sources.disk_wait_seconds / steps;
  line["degenerate_count"] = window.degenerate_;
  line["wire_bytes"] = static_cast<double>(window.wire_bytes_) / steps;
  if (window.gradient_norm_ > 0) line["gradient_norm"] = window.gradient_norm_ / steps;
  line["step_seconds"] = window.step_seconds();
  line["wait_data_seconds"] = window.wait_data_seconds_ / steps;
  line["forward_seconds"] = window.forward_seconds_ / steps;
  line["wait_head_seconds"] = window.wait_head_seconds_ / steps;
  line["backward_seconds"] = window.backward_seconds_ / steps;
  line["optimizer_seconds"] = window.optimizer_seconds_ / steps;
  for (size_t h = 0; window.heads_.size() > 1 && h < window.heads_.size(); ++h) {
    const HeadFigures& head = window.heads_[h];
    line["heads"][head_names[h]] = {
        {"loss", Number(head.loss / steps)},
        {"target_cosine", Number(head.target_count > 0 ? head.target_cosine_sum / static_cast<double>(head.target_count) : 0.0)},
        {"target_count", head.target_count},
        {"row_count", static_cast<double>(head.row_count) / steps}};
  }
  return WriteLine(Text(line));
}

absl::Status MetricsLog::WriteVerification(const std::string& name, const VerificationMetrics& metrics, int64_t done_steps, double epoch,
                                           double seconds) {
  nlohmann::ordered_json line;
  line["step"] = done_steps;
  line["epoch"] = epoch;
  line["verification"] = name;
  line["accuracy"] = metrics.accuracy;
  line["accuracy_std"] = metrics.accuracy_deviation;
  line["threshold"] = metrics.threshold;
  for (const auto& [false_rate, true_rate] : metrics.true_accept_rates) line["tar"][absl::StrFormat("%g", false_rate)] = true_rate;
  line["seconds"] = seconds;
  return WriteLine(Text(line));
}

absl::Status MetricsLog::WriteLine(const std::string& line) {
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0) {
    return ErrnoStatus(errno, path_);
  }
  return absl::OkStatus();
}

}  // namespace myriad
