#ifndef MYRIAD_CLIENT_MAPPED_FILE_H_
#define MYRIAD_CLIENT_MAPPED_FILE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// A file as memory: nothing is read before it is looked at, and what was read may leave memory again. Nobody may shorten the file
// meanwhile. Thread-safe (immutable).
class MappedFile {
 public:
  // Errors: those of the system; INVALID_ARGUMENT: no regular file. Both name the path.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  // The whole file; not aligned beyond its start. Valid while the object lives.
  absl::Span<const char> bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, absl::Span<const char> bytes) : path_(std::move(path)), bytes_(bytes) {}

  const std::string path_;
  const absl::Span<const char> bytes_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_MAPPED_FILE_H_
