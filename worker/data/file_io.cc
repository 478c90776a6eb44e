#include "worker/data/file_io.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

}  // namespace

absl::Status ErrnoStatus(const std::string& path) {
  const int error = errno;
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  if (error == ENOENT || error == ENOTDIR) code = absl::StatusCode::kNotFound;
  if (error == EEXIST || error == ENOTEMPTY) code = absl::StatusCode::kAlreadyExists;
  if (error == EACCES || error == EPERM || error == EROFS) code = absl::StatusCode::kPermissionDenied;
  if (error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE) code = absl::StatusCode::kResourceExhausted;
  if (error == EISDIR || error == ELOOP) code = absl::StatusCode::kInvalidArgument;
  return absl::Status(code, absl::StrCat(path, ": ", std::strerror(error)));
}

absl::StatusOr<std::string> ReadFileBytes(const std::string& path) {
  auto file = RandomAccessFile::Open(path);
  if (!file.ok()) return file.status();
  std::string bytes((*file)->size(), '\0');
  if (absl::Status status = (*file)->ReadAt(0, bytes.size(), bytes.data()); !status.ok()) return status;
  return bytes;
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> RandomAccessFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(path);
  struct stat info;
  absl::Status status;
  if (fstat(fd, &info) != 0) {
    status = ErrnoStatus(path);
  } else if (!S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(absl::StrCat(path, ": not a file"));
  }
  if (!status.ok()) {
    close(fd);
    return status;
  }
  return std::unique_ptr<RandomAccessFile>(new RandomAccessFile(path, fd, info.st_size));
}

RandomAccessFile::~RandomAccessFile() { close(fd_); }

absl::Status RandomAccessFile::ReadAt(int64_t offset, int64_t count, void* out) const {
  char* to = static_cast<char*>(out);
  while (count > 0) {
    const ssize_t got = pread(fd_, to, count, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(path_);
    if (got == 0) return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, ", ", count, " bytes early"));
    to += got;
    offset += got;
    count -= got;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FileWriter>> FileWriter::Create(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(path);
  return std::unique_ptr<FileWriter>(new FileWriter(path, fd));
}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
}

absl::Status FileWriter::Write(const void* data, int64_t count) {
  buffer_.append(static_cast<const char*>(data), count);
  size_ += count;
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status FileWriter::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoStatus(path_);
    done += put;
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status FileWriter::Close() {
  if (absl::Status status = Flush(); !status.ok()) return status;
  const bool ok = fdatasync(fd_) == 0;
  absl::Status status = ok ? absl::OkStatus() : ErrnoStatus(path_);
  if (close(std::exchange(fd_, -1)) != 0 && status.ok()) status = ErrnoStatus(path_);
  return status;
}

}  // namespace myriad
