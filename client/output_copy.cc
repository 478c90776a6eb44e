#include "client/output_copy.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/file_util.h"

namespace myriad {

namespace {

// A file takes everything, or fails.
void WriteToFile(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;
    text.remove_prefix(count);
  }
}

}  // namespace

TerminalWriter::TerminalWriter(int fd, absl::Duration patience) : fd_(fd), patience_(patience) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return;
  is_socket_ = S_ISSOCK(status.st_mode);
  waits_ = is_socket_ || S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode);
  // O_NONBLOCK belongs to what was opened, which this process shares with the shell that gave it: opened anew it is this object's alone.
  if (waits_ && !is_socket_) {
    own_fd_ = ::open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  }
}

TerminalWriter::~TerminalWriter() {
  if (own_fd_ >= 0) ::close(own_fd_);
}

ssize_t TerminalWriter::TryWrite(absl::string_view text) const {
  if (is_socket_) return ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (own_fd_ >= 0) return ::write(own_fd_, text.data(), text.size());
  // Somebody else's terminal (su): a little at a time, once it says that there is room.
  constexpr size_t kLittle = 256;
  pollfd room = {fd_, POLLOUT, 0};
  if (::poll(&room, 1, 0) != 1) {
    errno = EAGAIN;
    return -1;
  }
  return ::write(fd_, text.data(), std::min(text.size(), kLittle));
}

void TerminalWriter::Write(absl::string_view text) {
  if (!waits_) return WriteToFile(fd_, text);
  const absl::Time deadline = absl::Now() + (stalled_ ? absl::ZeroDuration() : patience_);
  while (!text.empty()) {
    const ssize_t count = TryWrite(text);
    if (count >= 0) {
      stalled_ = false;
      text.remove_prefix(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return;
    const absl::Duration left = deadline - absl::Now();
    stalled_ = left <= absl::ZeroDuration();
    if (stalled_) return;
    pollfd room = {own_fd_ >= 0 ? own_fd_ : fd_, POLLOUT, 0};
    ::poll(&room, 1, static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)))));
  }
}

absl::StatusOr<std::unique_ptr<OutputCopy>> OutputCopy::Start(TerminalWriter* terminal, const std::string& log_path) {
  std::unique_ptr<OutputCopy> copy(new OutputCopy());
  copy->log_fd_ = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (copy->log_fd_ < 0) return ErrnoStatus(errno, log_path);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  copy->read_fd_ = ends[0];
  copy->write_fd_ = ends[1];
  ::fcntl(copy->read_fd_, F_SETFL, O_NONBLOCK);  // The reading end alone: a child's stdout blocks as usual.
  copy->stop_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (copy->stop_fd_ < 0) return ErrnoStatus(errno, "eventfd");
  copy->thread_ = std::thread([raw = copy.get(), terminal] { raw->Run(terminal); });
  return copy;
}

OutputCopy::~OutputCopy() {
  const uint64_t one = 1;
  if (stop_fd_ >= 0) (void)!::write(stop_fd_, &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
  for (int fd : {read_fd_, write_fd_, stop_fd_, log_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void OutputCopy::Run(TerminalWriter* terminal) {
  char buffer[4096];
  bool stopping = false;
  while (true) {
    const ssize_t count = ::read(read_fd_, buffer, sizeof(buffer));
    if (count > 0) {
      WriteToFile(log_fd_, absl::string_view(buffer, count));
      terminal->Write(absl::string_view(buffer, count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count == 0 || errno != EAGAIN || stopping) return;
    pollfd waited[] = {{read_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    ::poll(waited, 2, -1);
    stopping = waited[1].revents != 0;
  }
}

}  // namespace myriad
