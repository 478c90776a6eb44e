#include "server/store/direct_write.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {
namespace {

constexpr int64_t kWriteBytes = 1 << 20;
constexpr size_t kPage = 4096;  // What direct I/O asks of memory.

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};

}  // namespace

absl::StatusOr<double> WriteDirectly(const std::string& folder, int64_t bytes) {
  const std::string path = absl::StrCat(folder, "/direct-write-", ::getpid());
  const std::unique_ptr<char, Free> buffer(static_cast<char*>(std::aligned_alloc(kPage, kWriteBytes)));
  if (buffer == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no memory for a buffer of ", kWriteBytes, " bytes"));
  std::memset(buffer.get(), 7, kWriteBytes);
  const absl::Time start = absl::Now();
  int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0644);
  if (file < 0 && errno == EINVAL) file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);  // Such as tmpfs.
  // It has no name from here on, so a process that is killed leaves nothing behind.
  if (file >= 0) ::unlink(path.c_str());
  bool written = file >= 0;
  for (int64_t offset = 0; written && offset < bytes; offset += kWriteBytes) {
    written = ::pwrite(file, buffer.get(), kWriteBytes, offset) == kWriteBytes;
  }
  written = written && ::fdatasync(file) == 0;
  const int error = errno;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  if (file >= 0) ::close(file);
  if (!written) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(error)));
  return seconds;
}

}  // namespace myriad
