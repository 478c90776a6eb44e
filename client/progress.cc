#include "client/progress.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace myriad {
namespace {

constexpr absl::Duration kFirstLine = absl::Seconds(1);
constexpr absl::Duration kTerminalInterval = absl::Milliseconds(200);
constexpr absl::Duration kLogInterval = absl::Seconds(10);

std::string Clock(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 3600) return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  return absl::StrFormat("%d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

}  // namespace

std::string ProgressText(absl::string_view what, int64_t done, int64_t total, absl::Duration elapsed) {
  std::string text = absl::StrFormat("%s  %d of %d rows", what, done, total);
  if (total > 0) absl::StrAppendFormat(&text, "  %d%%", static_cast<int64_t>(100.0 * done / total));
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (done > 0 && seconds > 0) {
    const double rate = done / seconds;
    absl::StrAppendFormat(&text, "  %.0f rows/s  %s left", rate, Clock(absl::Seconds(std::max<int64_t>(0, total - done) / rate)));
  }
  return text;
}

Progress::Options Progress::ForStderr() {
  Options options;
  options.fd = STDERR_FILENO;
  options.is_terminal = ::isatty(STDERR_FILENO) == 1;
  return options;
}

Progress::Progress(std::string what, int64_t total, const Options& options)
    : what_(std::move(what)),
      total_(total),
      options_(options),
      start_(options_.now()),
      writer_(options_.fd),
      next_(start_ + (options_.is_terminal ? kFirstLine : kLogInterval)) {}

Progress::~Progress() {
  if (width_ == 0) return;
  if (shown_ != done_) Show();
  writer_.Write("\n");
}

void Progress::Add(int64_t rows) {
  done_ += rows;
  const absl::Time now = options_.now();
  if (now < next_) return;
  next_ = now + (options_.is_terminal ? kTerminalInterval : kLogInterval);
  Show();
}

void Progress::Show() {
  shown_ = done_;
  std::string text = ProgressText(what_, done_, total_, options_.now() - start_);
  if (!options_.is_terminal) {
    writer_.Write(absl::StrCat(text, "\n"));
    return;
  }
  const size_t length = text.size();
  // What a longer line left behind is wiped.
  text.append(width_ - std::min(width_, length), ' ');
  width_ = length;
  writer_.Write(absl::StrCat("\r", text));
}

}  // namespace myriad
