#include "worker/progress.h"

#include <sys/stat.h>
#include <unistd.h>

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

storage::v1::StepWindow StepWindow::ToProto() const {
  storage::v1::StepWindow message;
  message.set_steps(steps_);
  message.set_images(images_);
  message.set_targets(targets_);
  message.set_skipped(skipped_);
  message.set_degenerate(degenerate_);
  message.set_wire_bytes(wire_bytes_);
  message.set_loss(loss_);
  message.set_cosine(cosine_sum_);
  message.set_learning_rate(learning_rate_);
  message.set_gradient_norm(gradient_norm_);
  message.set_wall_seconds(wall_seconds_);
  message.set_wait_data_seconds(wait_data_seconds_);
  message.set_forward_seconds(forward_seconds_);
  message.set_wait_head_seconds(wait_head_seconds_);
  message.set_backward_seconds(backward_seconds_);
  message.set_optimizer_seconds(optimizer_seconds_);
  message.set_row_hits(row_sources_.hits);
  message.set_rows_awaited(row_sources_.awaited);
  message.set_row_misses(row_sources_.misses);
  message.set_rows_created(row_sources_.created);
  message.set_disk_wait_seconds(row_sources_.disk_wait_seconds);
  for (const HeadFigures& figures : heads_) {
    storage::v1::HeadWindow* head = message.add_heads();
    head->set_loss(figures.loss);
    head->set_samples(figures.sample_count);
    head->set_targets(figures.target_count);
    head->set_cosine(figures.target_cosine_sum);
    head->set_rows(figures.row_count);
  }
  return message;
}

StepWindow StepWindow::FromProto(const storage::v1::StepWindow& message) {
  StepWindow window;
  window.steps_ = message.steps();
  window.images_ = message.images();
  window.targets_ = message.targets();
  window.skipped_ = message.skipped();
  window.degenerate_ = message.degenerate();
  window.wire_bytes_ = message.wire_bytes();
  window.loss_ = message.loss();
  window.cosine_sum_ = message.cosine();
  window.learning_rate_ = message.learning_rate();
  window.gradient_norm_ = message.gradient_norm();
  window.wall_seconds_ = message.wall_seconds();
  window.wait_data_seconds_ = message.wait_data_seconds();
  window.forward_seconds_ = message.forward_seconds();
  window.wait_head_seconds_ = message.wait_head_seconds();
  window.backward_seconds_ = message.backward_seconds();
  window.optimizer_seconds_ = message.optimizer_seconds();
  window.row_sources_.hits = message.row_hits();
  window.row_sources_.awaited = message.rows_awaited();
  window.row_sources_.misses = message.row_misses();
  window.row_sources_.created = message.rows_created();
  window.row_sources_.disk_wait_seconds = message.disk_wait_seconds();
  for (const storage::v1::HeadWindow& head : message.heads()) {
    HeadFigures figures;
    figures.loss = head.loss();
    figures.sample_count = head.samples();
    figures.target_count = head.targets();
    figures.target_cosine_sum = head.cosine();
    figures.row_count = head.rows();
    window.heads_.push_back(figures);
  }
  return window;
}

absl::StatusOr<MetricsLog> MetricsLog::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return ErrnoStatus(errno, path);
  return MetricsLog(path, file);
}

absl::StatusOr<MetricsLog> MetricsLog::OpenBehind(const std::string& path, int64_t bytes) {
  absl::StatusOr<MetricsLog> log = Open(path);
  if (!log.ok()) return log;
  const absl::StatusOr<int64_t> size = log->Size();
  if (!size.ok()) return size.status();
  if (*size > bytes && ::ftruncate(::fileno(log->file_.get()), bytes) != 0) return ErrnoStatus(errno, path);
  return log;
}

absl::StatusOr<int64_t> MetricsLog::Size() const {
  struct stat status;
  if (::fstat(::fileno(file_.get()), &status) != 0) return ErrnoStatus(errno, path_);
  return status.st_size;
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
