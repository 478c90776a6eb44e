#include "client/run_shards.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/file_util.h"

namespace myriad {
namespace {

std::string PathIn(const std::string& run_dir) { return JoinPath(run_dir, "shards.txt"); }

// The whole file, for fcntl().
struct flock LockOf(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunShards>> RunShards::Announce(const std::string& run_dir, absl::Span<const std::string> addresses) {
  const std::string path = PathIn(run_dir);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, path);
  struct flock lock = LockOf(F_WRLCK);
  if (::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    const int error = errno;
    ::close(fd);
    return error == EAGAIN || error == EACCES
               ? absl::FailedPreconditionError(absl::StrCat(path, ": the run of another process goes on in this folder"))
               : ErrnoStatus(error, path);
  }
  std::unique_ptr<RunShards> shards(new RunShards(path, fd));
  if (::ftruncate(fd, 0) != 0) return ErrnoStatus(errno, path);
  const std::string text = absl::StrCat(absl::StrJoin(addresses, "\n"), "\n");
  if (absl::Status status = WriteAll(fd, absl::MakeConstSpan(text.data(), text.size()), 0, path); !status.ok()) return status;
  return shards;
}

RunShards::~RunShards() {
  ::unlink(path_.c_str());
  ::close(fd_);
}

absl::StatusOr<std::vector<std::string>> RunShards::Find(const std::string& run_dir) {
  const std::string path = PathIn(run_dir);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::vector<std::string>();
  if (fd < 0) return ErrnoStatus(errno, path);
  struct flock lock = LockOf(F_RDLCK);  // Asks who is in the way of such a lock; takes none.
  const int error = ::fcntl(fd, F_OFD_GETLK, &lock) != 0 ? errno : 0;
  ::close(fd);
  if (error != 0) return ErrnoStatus(error, path);
  if (lock.l_type == F_UNLCK) return std::vector<std::string>();
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  return std::vector<std::string>(absl::StrSplit(*text, '\n', absl::SkipEmpty()));
}

}  // namespace myriad
