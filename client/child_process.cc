#include "client/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

extern char** environ;

namespace myriad {
namespace {

std::vector<std::string> MergedEnvironment(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view text(*entry);
    const absl::string_view name = text.substr(0, text.find('='));
    const bool replaced = std::any_of(changes.begin(), changes.end(), [&](const auto& change) { return change.first == name; });
    if (!replaced) merged.emplace_back(text);
  }
  for (const auto& [name, value] : changes) merged.push_back(absl::StrCat(name, "=", value));
  return merged;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Runs in the child between fork and exec: async-signal-safe calls only. Returns only on an error, with errno set.
void BecomeProgram(pid_t parent, int stdout_fd, int stderr_fd, int inherited_fd, char* const* arguments, char* const* environment) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // The parent died before prctl.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD}) ::signal(number, SIG_DFL);
  if (stdout_fd >= 0 && ::dup2(stdout_fd, STDOUT_FILENO) < 0) return;
  if (stderr_fd >= 0 && ::dup2(stderr_fd, STDERR_FILENO) < 0) return;
  if (inherited_fd >= 0 && ::fcntl(inherited_fd, F_SETFD, 0) != 0) return;
  ::execve(arguments[0], arguments, environment);
}

int MillisecondsUntil(absl::Time deadline) {
  const absl::Duration left = deadline - absl::Now();
  if (left <= absl::ZeroDuration()) return 0;
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 1 << 30));
}

}  // namespace

std::string ProcessExit::Describe() const {
  if (signal != 0) return absl::StrCat("was killed by signal ", signal, " (", ::strsignal(signal), ")");
  return absl::StrCat("exited with code ", code);
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Spawn(const Options& options) {
  if (options.arguments.empty()) return absl::InvalidArgumentError("a process needs a program to run");
  const std::string& program = options.arguments[0];
  if (::access(program.c_str(), X_OK) != 0) return absl::NotFoundError(absl::StrCat(program, ": ", ::strerror(errno)));
  std::vector<std::string> arguments = options.arguments;
  std::vector<std::string> environment = MergedEnvironment(options.environment);
  const std::vector<char*> argument_pointers = Pointers(arguments);
  const std::vector<char*> environment_pointers = Pointers(environment);

  int log_fd = -1;
  if (!options.log_path.empty()) {
    log_fd = ::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_fd < 0) return absl::InternalError(absl::StrCat(options.log_path, ": ", ::strerror(errno)));
  }
  // The child writes errno here if exec fails; the pipe closes by itself if it succeeds.
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    const std::string reason = ::strerror(errno);
    if (log_fd >= 0) ::close(log_fd);
    return absl::InternalError(absl::StrCat("pipe: ", reason));
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    BecomeProgram(parent, options.stdout_fd >= 0 ? options.stdout_fd : log_fd, log_fd, options.inherited_fd, argument_pointers.data(),
                  environment_pointers.data());
    const int reason = errno;
    (void)!::write(report[1], &reason, sizeof(reason));
    ::_exit(127);
  }
  const int fork_errno = errno;
  ::close(report[1]);
  if (log_fd >= 0) ::close(log_fd);
  int exec_errno = 0;
  ssize_t received = 0;
  if (pid > 0) {
    do {
      received = ::read(report[0], &exec_errno, sizeof(exec_errno));
    } while (received < 0 && errno == EINTR);
  }
  ::close(report[0]);
  if (pid < 0) return absl::InternalError(absl::StrCat("fork for ", program, ": ", ::strerror(fork_errno)));
  if (received == sizeof(exec_errno)) {
    ::waitpid(pid, nullptr, 0);
    return absl::NotFoundError(absl::StrCat(program, ": ", ::strerror(exec_errno)));
  }
  const int pid_fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, pid_fd, options.log_path));
}

ChildProcess::~ChildProcess() {
  if (!Poll().has_value()) Terminate(absl::ZeroDuration());
  if (pid_fd_ >= 0) ::close(pid_fd_);
}

absl::optional<ProcessExit> ChildProcess::Poll() {
  if (exit_.has_value()) return exit_;
  int state = 0;
  const pid_t reaped = ::waitpid(pid_, &state, WNOHANG);
  if (reaped == 0 || (reaped < 0 && errno == EINTR)) return absl::nullopt;
  ProcessExit ended;
  if (reaped < 0) {
    ended.code = 127;  // Somebody else reaped it: it is gone, how is not known.
  } else if (WIFSIGNALED(state)) {
    ended.signal = WTERMSIG(state);
  } else {
    ended.code = WEXITSTATUS(state);
  }
  exit_ = ended;
  return exit_;
}

absl::optional<ProcessExit> ChildProcess::Wait(absl::Duration timeout) {
  ChildProcess* const self = this;
  if (!WaitForAnyExit(absl::MakeConstSpan(&self, 1), timeout).has_value()) return absl::nullopt;
  return exit_;
}

void ChildProcess::Signal(int signal) {
  if (!Poll().has_value()) ::kill(pid_, signal);
}

ProcessExit ChildProcess::Terminate(absl::Duration grace) {
  if (grace > absl::ZeroDuration()) {
    Signal(SIGTERM);
    const absl::Time deadline = absl::Now() + grace;
    while (!Poll().has_value() && absl::Now() < deadline) Wait(deadline - absl::Now());
  }
  Signal(SIGKILL);
  while (!Poll().has_value()) Wait(absl::Seconds(1));
  return *exit_;
}

absl::optional<size_t> WaitForAnyExit(absl::Span<ChildProcess* const> children, absl::Duration timeout) {
  // A kernel without pid file descriptors is asked every 20 ms instead.
  constexpr int kPollMilliseconds = 20;
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    std::vector<pollfd> waited;
    bool blind = false;
    for (size_t i = 0; i < children.size(); ++i) {
      if (children[i]->Poll().has_value()) return i;
      blind = blind || children[i]->pid_fd_ < 0;
      if (children[i]->pid_fd_ >= 0) waited.push_back({children[i]->pid_fd_, POLLIN, 0});
    }
    const int left = MillisecondsUntil(deadline);
    if (left == 0) return absl::nullopt;
    const int ready = ::poll(waited.data(), waited.size(), blind ? std::min(left, kPollMilliseconds) : left);
    if (ready < 0) return absl::nullopt;
  }
}

void WaitForAllExits(absl::Span<const std::unique_ptr<ChildProcess>> children, absl::Duration timeout,
                     const std::function<bool()>& give_up) {
  constexpr absl::Duration kGiveUpPoll = absl::Milliseconds(100);
  const absl::Time deadline = absl::Now() + timeout;
  while (!(give_up && give_up())) {
    std::vector<ChildProcess*> running;
    for (const std::unique_ptr<ChildProcess>& child : children) {
      if (!child->Poll().has_value()) running.push_back(child.get());
    }
    const absl::Duration left = deadline - absl::Now();
    if (running.empty() || left <= absl::ZeroDuration()) return;
    WaitForAnyExit(running, std::min(kGiveUpPoll, left));
  }
}

std::vector<std::pair<std::string, std::string>> QuietOpenMp() { return {{"OMP_WAIT_POLICY", "PASSIVE"}, {"GOMP_SPINCOUNT", "0"}}; }

std::string LastLines(const std::string& path, int count) {
  constexpr std::streamoff kLargestRead = 64 << 10;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const std::streamoff size = file.tellg();
  const std::streamoff start = std::max<std::streamoff>(0, size - kLargestRead);
  std::string text(static_cast<size_t>(size - start), '\0');
  file.seekg(start);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  if (text.empty() || count <= 0) return "";
  if (text.back() != '\n') text += '\n';
  size_t begin = text.size() - 1;
  for (int line = 0; line < count && begin != std::string::npos; ++line)
    begin = begin == 0 ? std::string::npos : text.rfind('\n', begin - 1);
  return begin == std::string::npos ? text : text.substr(begin + 1);
}

}  // namespace myriad
