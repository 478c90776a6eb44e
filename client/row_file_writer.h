#ifndef MYRIAD_CLIENT_ROW_FILE_WRITER_H_
#define MYRIAD_CLIENT_ROW_FILE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/safetensors.h"
#include "head/head_spec.h"

namespace myriad {

// The safetensors type of a head's numbers.
TensorType TensorTypeOf(DataType dtype);

// One file of rows in the layout of head_rows.h, written as they come, in any order, without holding them: their number is known
// beforehand. Weights of any dtype; slots, if any, as float32, with what they are in the metadata: `optimizer` and `slot_dtype`. Not
// thread-safe.
class RowFileWriter {
 public:
  struct Options {
    std::string path;
    HeadSpec head;
    int64_t committed_steps = 0;
    int64_t row_count = 0;
    bool slots = false;
    DataType dtype = DataType::kFloat32;  // Of the weights in the file.
  };

  // Errors: as SafetensorsWriter::Create.
  static absl::StatusOr<std::unique_ptr<RowFileWriter>> Create(const Options& options);
  ~RowFileWriter();

  // `weights`: class_ids.size() x D; rounded to nearest where the file's dtype is narrower. `slots`: as many rows
  // of SlotNumbers(head), if the file has them.
  // Errors: as SafetensorsWriter::Append.
  absl::Status Append(absl::Span<const int64_t> class_ids, const float* weights, const float* slots);

  // Makes the file durable under its name. Errors: as SafetensorsWriter::Finish.
  absl::Status Finish();

  // After Finish(): reads the whole file, from the disk and not from memory where the system can be told so, and compares it with what was
  // appended. Errors: DATA_LOSS naming path and tensor.
  absl::Status Verify() const;

  // XXH3 of all that was appended, tensor by tensor.
  uint64_t checksum() const;
  int64_t row_count() const { return options_.row_count; }
  // Of the tensors.
  int64_t byte_count() const;

 private:
  struct Column;
  RowFileWriter(const Options& options, std::vector<TensorInfo> tensors, std::unique_ptr<SafetensorsWriter> writer);
  absl::Status AppendTo(size_t column, absl::Span<const char> bytes);

  const Options options_;
  const std::vector<TensorInfo> tensors_;
  std::unique_ptr<SafetensorsWriter> writer_;
  std::vector<std::unique_ptr<Column>> columns_;  // Of tensors_.
  std::vector<std::byte> stored_;                 // Weights as the file has them; keeps its memory.
};

// One checksum of several files, in their order.
uint64_t CombinedChecksum(absl::Span<const std::unique_ptr<RowFileWriter>> files);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ROW_FILE_WRITER_H_
