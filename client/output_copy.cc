#include "client/output_copy.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "client/file_util.h"

namespace myriad {

void WriteToTerminal(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;
    text.remove_prefix(count);
  }
}

absl::StatusOr<std::unique_ptr<OutputCopy>> OutputCopy::Start(int terminal_fd, const std::string& log_path) {
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
  copy->thread_ = std::thread([raw = copy.get(), terminal_fd] { raw->Run(terminal_fd); });
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

void OutputCopy::Run(int terminal_fd) {
  char buffer[4096];
  bool stopping = false;
  while (true) {
    const ssize_t count = ::read(read_fd_, buffer, sizeof(buffer));
    if (count > 0) {
      WriteToTerminal(log_fd_, absl::string_view(buffer, count));
      WriteToTerminal(terminal_fd, absl::string_view(buffer, count));
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
