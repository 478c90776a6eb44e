#ifndef MYRIAD_CLIENT_OUTPUT_COPY_H_
#define MYRIAD_CLIENT_OUTPUT_COPY_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace myriad {

// Writes all of `text` to a terminal or pipe; what nobody reads is dropped.
void WriteToTerminal(int fd, absl::string_view text);

// A pipe for a child's output, copied to a terminal and to a log file as it comes. Thread-compatible; one thread of its own copies.
class OutputCopy {
 public:
  // `terminal_fd` must outlive it. Errors: those of the system.
  static absl::StatusOr<std::unique_ptr<OutputCopy>> Start(int terminal_fd, const std::string& log_path);
  // Copies what was written so far and ends, even if somebody still has the pipe open.
  ~OutputCopy();

  OutputCopy(const OutputCopy&) = delete;
  OutputCopy& operator=(const OutputCopy&) = delete;

  // The end to write to: for ChildProcess::Options::stdout_fd.
  int write_fd() const { return write_fd_; }

 private:
  OutputCopy() = default;
  void Run(int terminal_fd);

  int read_fd_ = -1;
  int write_fd_ = -1;
  int stop_fd_ = -1;  // Readable when the thread is to copy what there is and end.
  int log_fd_ = -1;
  std::thread thread_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_OUTPUT_COPY_H_
