#ifndef MYRIAD_WORKER_DATA_FILE_IO_H_
#define MYRIAD_WORKER_DATA_FILE_IO_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace myriad {

bool FileExists(const std::string& path);
bool IsDirectory(const std::string& path);

// A file read at any place by any number of threads at once. Read calls, not a mapping: a file cut short while it is open is an
// error and not a signal.
class RandomAccessFile {
 public:
  static absl::StatusOr<std::unique_ptr<RandomAccessFile>> Open(const std::string& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::string& path() const { return path_; }
  // When it was opened.
  int64_t size() const { return size_; }
  // Reads exactly `count` bytes. Errors: DATA_LOSS if the file ends before; as ErrnoStatus (client/file_util.h).
  absl::Status ReadAt(int64_t offset, int64_t count, void* out) const;

 private:
  RandomAccessFile(std::string path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}

  const std::string path_;
  const int fd_;
  const int64_t size_;
};

// A new file written from its start. Not thread-safe.
class FileWriter {
 public:
  // Errors: ALREADY_EXISTS; as ErrnoStatus.
  static absl::StatusOr<std::unique_ptr<FileWriter>> Create(const std::string& path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  absl::Status Write(const void* data, int64_t count);
  absl::Status Write(absl::string_view bytes) { return Write(bytes.data(), bytes.size()); }
  // Writes what is buffered and waits until the disk has it. No call after it.
  absl::Status Close();
  int64_t size() const { return size_; }

 private:
  FileWriter(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status Flush();

  const std::string path_;
  int fd_;
  std::string buffer_;
  int64_t size_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_FILE_IO_H_
