#ifndef MYRIAD_CLIENT_CHILD_PROCESS_H_
#define MYRIAD_CLIENT_CHILD_PROCESS_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace myriad {

// How a process ended.
struct ProcessExit {
  int code = 0;    // Of exit(), when signal is 0.
  int signal = 0;  // That killed it; 0 if it exited by itself.
  bool ok() const { return code == 0 && signal == 0; }
  // "exited with code 1", "was killed by signal 9 (Killed)".
  std::string Describe() const;
};

// A process that this one started. It has its own process group (a terminal's Ctrl-C reaches the parent alone, which then decides the
// order), the default action of the signals that stop a process, and the kernel kills it when its parent is gone, however that ended.
// Thread-compatible.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;  // The program's path, then its arguments. No search in PATH, no shell.
    // Set on top of this process's environment.
    std::vector<std::pair<std::string, std::string>> environment;
    std::string log_path;   // stdout and stderr are appended to this file (made if missing). Both are inherited when empty.
    int stdout_fd = -1;     // If >= 0, stdout goes there instead (for example a pipe that the parent copies to a terminal). Not closed.
    int inherited_fd = -1;  // If >= 0, the child has it too, under the same number. Not closed.
  };

  // Starts it. The kernel ties its life to the calling THREAD: call from one that lives until the child is gone.
  // Errors: INVALID_ARGUMENT (no arguments), NOT_FOUND (no such program, or not executable), INTERNAL (log file, fork); each names what.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Spawn(const Options& options);

  // Kills it if it still runs, and reaps it.
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& log_path() const { return log_path_; }

  // How it ended, or nullopt while it runs. Never blocks.
  absl::optional<ProcessExit> Poll();
  // Waits up to `timeout` for its end. Returns early with nullopt when a signal handler of this process ran.
  absl::optional<ProcessExit> Wait(absl::Duration timeout);
  // Sends a signal; nothing once it has ended.
  void Signal(int signal);
  // SIGTERM, up to `grace` for a clean stop, then SIGKILL; returns once it is gone.
  ProcessExit Terminate(absl::Duration grace);

 private:
  ChildProcess(pid_t pid, int pid_fd, std::string log_path) : pid_(pid), pid_fd_(pid_fd), log_path_(std::move(log_path)) {}
  friend absl::optional<size_t> WaitForAnyExit(absl::Span<ChildProcess* const> children, absl::Duration timeout);

  const pid_t pid_;
  const int pid_fd_;  // Readable once the process has ended; -1 where the kernel has none.
  const std::string log_path_;
  absl::optional<ProcessExit> exit_;
};

// Waits until one of `children` has ended and returns its index (the first, if several); nullopt after `timeout` or when a signal handler
// of this process ran.
absl::optional<size_t> WaitForAnyExit(absl::Span<ChildProcess* const> children, absl::Duration timeout);

// Waits until all of `children` have ended; gives up after `timeout`, or when `give_up` says so (never if empty; asked every 100 ms, and at
// once when a signal handler of this process ran).
void WaitForAllExits(absl::Span<const std::unique_ptr<ChildProcess>> children, absl::Duration timeout,
                     const std::function<bool()>& give_up);

// How much is shown of the log of a process that ended badly.
inline constexpr int kShownLogLines = 20;

// Threads that wait must not spin where processes take turns on the same cores: for ChildProcess::Options::environment.
std::vector<std::pair<std::string, std::string>> QuietOpenMp();

// The last `count` lines of a file, each ended by a newline; "" if it cannot be read. Reads at most the last 64 KiB.
std::string LastLines(const std::string& path, int count);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_CHILD_PROCESS_H_
