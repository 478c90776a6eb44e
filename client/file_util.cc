#include "client/file_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr char kTemporary[] = ".tmp-";

}  // namespace

absl::Status ErrnoStatus(int error, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  switch (error) {
    case ENOENT: return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS: return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE: return absl::ResourceExhaustedError(message);
    case EEXIST:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY: return absl::FailedPreconditionError(message);
    default: return absl::UnavailableError(message);
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, path);
  std::string content;
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      ::close(fd);
      return ErrnoStatus(error, path);
    }
    if (count == 0) break;
    content.append(buffer, count);
  }
  ::close(fd);
  return content;
}

std::string TemporaryPath(const std::string& path) { return absl::StrCat(path, kTemporary, ::getpid()); }

bool IsTemporary(absl::string_view name) {
  const size_t mark = name.rfind(kTemporary);
  int64_t pid = 0;
  return mark != absl::string_view::npos && absl::SimpleAtoi(name.substr(mark + sizeof(kTemporary) - 1), &pid);
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view content) {
  const std::string temporary = TemporaryPath(path);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, temporary);
  absl::Status status = WriteAll(fd, absl::MakeConstSpan(content.data(), content.size()), 0, temporary);
  if (status.ok() && ::fsync(fd) != 0) status = ErrnoStatus(errno, temporary);
  ::close(fd);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) status = ErrnoStatus(errno, path);
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncFolderOf(path);
}

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoStatus(error.value(), path);
  if (!std::filesystem::is_directory(path, error)) return ErrnoStatus(ENOTDIR, path);
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, absl::Span<const char> bytes, int64_t offset, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, path);
    offset += count;
    bytes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, folder);
  // Some file systems (network mounts) cannot sync a folder and say EINVAL; the rename stands all the same.
  const bool failed = ::fsync(fd) != 0 && errno != EINVAL;
  const int error = errno;
  ::close(fd);
  return failed ? ErrnoStatus(error, folder) : absl::OkStatus();
}

std::string JoinPath(absl::string_view folder, absl::string_view name) {
  if (folder.empty() || folder.back() == '/') return absl::StrCat(folder, name);
  return absl::StrCat(folder, "/", name);
}

}  // namespace myriad
