#ifndef MYRIAD_CLIENT_PROGRESS_H_
#define MYRIAD_CLIENT_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/output_copy.h"

namespace myriad {

// "reading back  1200000 of 10000000 rows  12%  345678 rows/s  0:25 left"; the rate and what follows from it once there is one.
std::string ProgressText(absl::string_view what, int64_t done, int64_t total, absl::Duration elapsed);

// How far a long work over rows has come, for whoever waits: at a terminal one line that is written anew, elsewhere (a log, a pipe) a line
// of its own now and then. Work that is done before its first line is due shows none. Nobody is held up by who does not read.
// Thread-compatible.
class Progress {
 public:
  struct Options {
    int fd = 2;
    bool is_terminal = false;
    std::function<absl::Time()> now = absl::Now;
  };
  // Of the standard error as it is.
  static Options ForStderr();

  // `what`: the work, as in "reading back"; `total` rows.
  Progress(std::string what, int64_t total, const Options& options);
  // Ends the line.
  ~Progress();

  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `rows` more are done.
  void Add(int64_t rows);

 private:
  void Show();

  const std::string what_;
  const int64_t total_;
  const Options options_;
  const absl::Time start_;
  TerminalWriter writer_;
  absl::Time next_;  // When a line is due.
  int64_t done_ = 0;
  int64_t shown_ = 0;  // Of done_, last.
  size_t width_ = 0;   // Of the line at the terminal.
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_PROGRESS_H_
