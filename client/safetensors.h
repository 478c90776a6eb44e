#ifndef MYRIAD_CLIENT_SAFETENSORS_H_
#define MYRIAD_CLIENT_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/mapped_file.h"

namespace myriad {

// The safetensors file format without any tensor library: 8 bytes of header length (uint64 little-endian), a JSON header that names each
// tensor's dtype, shape and range of bytes, then the bytes, little-endian, row-major, without holes.

enum class TensorType { kBool, kU8, kI8, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kI64, kU64, kF64 };

// "F32", "I64", ...: the format's own names.
absl::string_view TensorTypeName(TensorType type);
int BytesPerElement(TensorType type);

struct TensorInfo {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // Empty: one number.

  int64_t element_count() const;
  int64_t byte_count() const;
};

// A tensor of an open file. Valid while its reader lives.
struct TensorView {
  const TensorInfo* info = nullptr;
  absl::Span<const char> bytes;  // info->byte_count() of them. Files of other writers may not be aligned: copy before casting.
};

// Reads a file through a memory map: nothing is copied until it is looked at. Thread-safe (immutable).
class SafetensorsReader {
 public:
  // Maps the file and checks its header completely. Errors, each naming the path: NOT_FOUND; INVALID_ARGUMENT: no safetensors file (no
  // header, no JSON, a dtype that is not known); DATA_LOSS: the header and the bytes do not fit (truncated, ranges that overlap, leave
  // holes or do not match the shape).
  static absl::StatusOr<std::unique_ptr<SafetensorsReader>> Open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  // In the order of their bytes.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Errors: NOT_FOUND naming path and tensor.
  absl::StatusOr<TensorView> Find(absl::string_view name) const;

 private:
  explicit SafetensorsReader(std::unique_ptr<MappedFile> file) : file_(std::move(file)) {}
  absl::Status ParseHeader();

  const std::unique_ptr<MappedFile> file_;
  std::vector<TensorInfo> tensors_;
  std::vector<absl::Span<const char>> bytes_;  // Of tensors_.
  std::map<std::string, std::string> metadata_;
};

// Writes a file whose shapes are known beforehand, in any order and without holding it in memory. The file has another name until Finish,
// so a reader never sees half of one. Not thread-safe.
class SafetensorsWriter {
 public:
  // Tensors lie in the given order; put wide types first and their elements are aligned. Errors: INVALID_ARGUMENT (a name twice,
  // "__metadata__", a negative size); UNAVAILABLE or another code of the system's errno naming the path.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path, std::vector<TensorInfo> tensors,
                                                                   const std::map<std::string, std::string>& metadata);
  // Removes the unfinished file.
  ~SafetensorsWriter();

  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // Appends bytes to tensor `index` of Create's list. Tensors may take turns. Errors: OUT_OF_RANGE: more bytes than the tensor has;
  // RESOURCE_EXHAUSTED: the disk is full.
  absl::Status Append(size_t index, absl::Span<const char> bytes);

  // Makes the file durable and gives it its name, in place of a file that has it. Errors: FAILED_PRECONDITION naming a tensor that lacks
  // bytes; those of the system. No call may follow.
  absl::Status Finish();

 private:
  SafetensorsWriter(std::string path, std::string temporary_path, int fd, std::vector<TensorInfo> tensors);

  const std::string path_;
  const std::string temporary_path_;
  int fd_;
  const std::vector<TensorInfo> tensors_;
  std::vector<int64_t> offsets_;  // Where each tensor starts in the file.
  std::vector<int64_t> written_;  // Bytes of each that are there.
};

// A typed view as bytes.
template <typename T>
absl::Span<const char> AsBytes(absl::Span<const T> values) {
  return absl::MakeConstSpan(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace myriad

#endif  // MYRIAD_CLIENT_SAFETENSORS_H_
