#include "client/row_file_writer.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/head_rows.h"
#include "head/stored_numbers.h"

namespace myriad {
namespace {

// Wide numbers first, so that all are aligned: class ids, slots if there are any, weights.
constexpr size_t kClassIds = 0;
constexpr size_t kSlots = 1;

uint64_t ChecksumOf(const std::vector<uint64_t>& digests) { return XXH3_64bits(digests.data(), digests.size() * sizeof(uint64_t)); }

// Lets go of the file's pages, so that the next read comes from the disk. It is durable already, and a system that cannot is no error.
void ForgetPages(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

}  // namespace

// The checksum of a tensor's bytes so far.
struct RowFileWriter::Column {
  Column() : state(XXH3_createState()) { XXH3_64bits_reset(state); }
  ~Column() { XXH3_freeState(state); }
  XXH3_state_t* const state;
};

TensorType TensorTypeOf(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32: return TensorType::kF32;
    case DataType::kBFloat16: return TensorType::kBF16;
    case DataType::kFloat16: return TensorType::kF16;
  }
  return TensorType::kF32;
}

RowFileWriter::RowFileWriter(const Options& options, std::vector<TensorInfo> tensors, std::unique_ptr<SafetensorsWriter> writer)
    : options_(options), tensors_(std::move(tensors)), writer_(std::move(writer)) {
  for (size_t i = 0; i < tensors_.size(); ++i) columns_.push_back(std::make_unique<Column>());
}
RowFileWriter::~RowFileWriter() = default;

absl::StatusOr<std::unique_ptr<RowFileWriter>> RowFileWriter::Create(const Options& options) {
  std::vector<TensorInfo> tensors = {{"class_ids", TensorType::kI64, {options.row_count}}};
  if (options.slots) tensors.push_back({"slots", TensorType::kF32, {options.row_count, SlotNumbers(options.head)}});
  tensors.push_back({"weights", TensorTypeOf(options.dtype), {options.row_count, options.head.embedding_dim}});
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> writer =
      SafetensorsWriter::Create(options.path, tensors, RowFileMetadata(options.head, options.committed_steps, options.slots));
  if (!writer.ok()) return writer.status();
  return std::unique_ptr<RowFileWriter>(new RowFileWriter(options, std::move(tensors), *std::move(writer)));
}

absl::Status RowFileWriter::AppendTo(size_t column, absl::Span<const char> bytes) {
  XXH3_64bits_update(columns_[column]->state, bytes.data(), bytes.size());
  return writer_->Append(column, bytes);
}

absl::Status RowFileWriter::Append(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) {
  const int64_t numbers = static_cast<int64_t>(class_ids.size()) * options_.head.embedding_dim;
  stored_.resize(numbers * BytesOf(options_.dtype));
  StoreNearest(options_.dtype, weights, numbers, stored_.data());
  if (absl::Status status = AppendTo(kClassIds, AsBytes(class_ids)); !status.ok()) return status;
  if (options_.slots) {
    const absl::Span<const float> of_slots = absl::MakeConstSpan(slots, class_ids.size() * SlotNumbers(options_.head));
    if (absl::Status status = AppendTo(kSlots, AsBytes(of_slots)); !status.ok()) return status;
  }
  return AppendTo(columns_.size() - 1, absl::MakeConstSpan(reinterpret_cast<const char*>(stored_.data()), stored_.size()));
}

absl::Status RowFileWriter::Finish() { return writer_->Finish(); }

absl::Status RowFileWriter::Verify() const {
  ForgetPages(options_.path);
  const absl::StatusOr<std::unique_ptr<SafetensorsReader>> reader = SafetensorsReader::Open(options_.path);
  if (!reader.ok()) return reader.status();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const absl::StatusOr<TensorView> view = (*reader)->Find(tensors_[i].name);
    if (!view.ok()) return view.status();
    const uint64_t found = XXH3_64bits(view->bytes.data(), view->bytes.size());
    const uint64_t expected = XXH3_64bits_digest(columns_[i]->state);
    if (found == expected) continue;
    return absl::DataLossError(absl::StrCat(options_.path, ": tensor ", tensors_[i].name, " reads back with checksum ",
                                            absl::Hex(found, absl::kZeroPad16), "; what was written has ",
                                            absl::Hex(expected, absl::kZeroPad16)));
  }
  return absl::OkStatus();
}

uint64_t RowFileWriter::checksum() const {
  std::vector<uint64_t> digests;
  for (const std::unique_ptr<Column>& column : columns_) digests.push_back(XXH3_64bits_digest(column->state));
  return ChecksumOf(digests);
}

int64_t RowFileWriter::byte_count() const {
  int64_t bytes = 0;
  for (const TensorInfo& tensor : tensors_) bytes += tensor.byte_count();
  return bytes;
}

uint64_t CombinedChecksum(absl::Span<const std::unique_ptr<RowFileWriter>> files) {
  std::vector<uint64_t> checksums;
  for (const std::unique_ptr<RowFileWriter>& file : files) checksums.push_back(file->checksum());
  return ChecksumOf(checksums);
}

}  // namespace myriad
