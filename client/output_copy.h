#ifndef MYRIAD_CLIENT_OUTPUT_COPY_H_
#define MYRIAD_CLIENT_OUTPUT_COPY_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace myriad {

// A terminal, pipe, socket or file that text is shown on. One that nobody reads (a pager that waits, Ctrl-S, a frozen connection) holds
// nobody up: what it does not take within `patience` is dropped, and all further text at once until it takes some again. Thread-compatible.
class TerminalWriter {
 public:
  // `fd` must outlive it.
  explicit TerminalWriter(int fd, absl::Duration patience = absl::Seconds(1));
  ~TerminalWriter();

  TerminalWriter(const TerminalWriter&) = delete;
  TerminalWriter& operator=(const TerminalWriter&) = delete;

  void Write(absl::string_view text);

 private:
  // As write(), without waiting.
  ssize_t TryWrite(absl::string_view text) const;

  const int fd_;
  const absl::Duration patience_;
  int own_fd_ = -1;     // The same terminal or pipe, never blocking; -1 where it cannot be opened anew.
  bool waits_ = false;  // Writing to `fd_` may take for ever: it is no file.
  bool is_socket_ = false;
  bool stalled_ = false;
};

// A pipe for a child's output, copied to a terminal and to a log file as it comes. Thread-compatible; one thread of its own copies.
class OutputCopy {
 public:
  // `terminal` must outlive it; nobody else may use it meanwhile. Errors: those of the system.
  static absl::StatusOr<std::unique_ptr<OutputCopy>> Start(TerminalWriter* terminal, const std::string& log_path);
  // Copies what was written so far and ends, even if somebody still has the pipe open or nobody reads the terminal.
  ~OutputCopy();

  OutputCopy(const OutputCopy&) = delete;
  OutputCopy& operator=(const OutputCopy&) = delete;

  // The end to write to: for ChildProcess::Options::stdout_fd.
  int write_fd() const { return write_fd_; }

 private:
  OutputCopy() = default;
  void Run(TerminalWriter* terminal);

  int read_fd_ = -1;
  int write_fd_ = -1;
  int stop_fd_ = -1;  // Readable when the thread is to copy what there is and end.
  int log_fd_ = -1;
  std::thread thread_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_OUTPUT_COPY_H_
