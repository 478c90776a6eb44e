#include "worker/data/file_io.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"

namespace myriad {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

}  // namespace

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
  if (fd < 0) return ErrnoStatus(errno, path);
  struct stat info;
  absl::Status status;
  if (fstat(fd, &info) != 0) {
    status = ErrnoStatus(errno, path);
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
    if (got < 0) return ErrnoStatus(errno, path_);
    if (got == 0) return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, ", ", count, " bytes early"));
    to += got;
    offset += got;
    count -= got;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FileWriter>> FileWriter::Create(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, path);
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
    if (put < 0) return ErrnoStatus(errno, path_);
    done += put;
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status FileWriter::Close() {
  if (absl::Status status = Flush(); !status.ok()) return status;
  const bool ok = fdatasync(fd_) == 0;
  absl::Status status = ok ? absl::OkStatus() : ErrnoStatus(errno, path_);
  if (close(std::exchange(fd_, -1)) != 0 && status.ok()) status = ErrnoStatus(errno, path_);
  return status;
}

}  // namespace myriad
