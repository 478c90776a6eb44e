#include "client/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "client/file_util.h"

namespace myriad {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLengthBytes = 8;
// The format's own bound: a length beyond it is another kind of file, and must not be allocated.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

struct TypeEntry {
  TensorType type;
  const char* name;
  int bytes;
};
constexpr TypeEntry kTypes[] = {
    {TensorType::kBool, "BOOL", 1}, {TensorType::kU8, "U8", 1},   {TensorType::kI8, "I8", 1},     {TensorType::kI16, "I16", 2},
    {TensorType::kU16, "U16", 2},   {TensorType::kF16, "F16", 2}, {TensorType::kBF16, "BF16", 2}, {TensorType::kI32, "I32", 4},
    {TensorType::kU32, "U32", 4},   {TensorType::kF32, "F32", 4}, {TensorType::kI64, "I64", 8},   {TensorType::kU64, "U64", 8},
    {TensorType::kF64, "F64", 8},
};

const TypeEntry& EntryOf(TensorType type) {
  return *std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeEntry& entry) { return entry.type == type; });
}

// rows x cols x ... elements of `bytes` bytes, or nullopt where a size is negative or the product does not fit.
absl::optional<int64_t> CheckedBytes(absl::Span<const int64_t> shape, int bytes) {
  int64_t total = bytes;
  for (int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(total, size, &total)) return absl::nullopt;
  }
  return total;
}

struct HeaderEntry {
  TensorInfo info;
  int64_t begin = 0;
  int64_t end = 0;
};

// Throws Json::exception where the entry has another form; ParseHeader converts it.
HeaderEntry ParseEntry(const std::string& name, const Json& json) {
  HeaderEntry entry;
  entry.info.name = name;
  const std::string type = json.at("dtype").get<std::string>();
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeEntry& known) { return known.name == type; });
  if (found == std::end(kTypes)) throw std::invalid_argument(absl::StrCat("dtype '", type, "' is not known"));
  entry.info.type = found->type;
  entry.info.shape = json.at("shape").get<std::vector<int64_t>>();
  const std::vector<int64_t> range = json.at("data_offsets").get<std::vector<int64_t>>();
  if (range.size() != 2) throw std::invalid_argument(absl::StrCat(range.size(), " data_offsets instead of 2"));
  entry.begin = range[0];
  entry.end = range[1];
  return entry;
}

}  // namespace

absl::string_view TensorTypeName(TensorType type) { return EntryOf(type).name; }

int BytesPerElement(TensorType type) { return EntryOf(type).bytes; }

int64_t TensorInfo::element_count() const {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

int64_t TensorInfo::byte_count() const { return element_count() * BytesPerElement(type); }

absl::StatusOr<std::unique_ptr<SafetensorsReader>> SafetensorsReader::Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  std::unique_ptr<SafetensorsReader> reader(new SafetensorsReader(*std::move(file)));
  if (absl::Status status = reader->ParseHeader(); !status.ok()) return status;
  return reader;
}

absl::Status SafetensorsReader::ParseHeader() {
  const char* const map = file_->bytes().data();
  const int64_t map_bytes = static_cast<int64_t>(file_->bytes().size());
  const auto invalid = [&](const auto&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(path(), ": not a safetensors file: ", parts...));
  };
  const auto damaged = [&](const auto&... parts) { return absl::DataLossError(absl::StrCat(path(), ": damaged: ", parts...)); };

  if (map_bytes < kLengthBytes) return invalid(map_bytes, " bytes");
  uint64_t length = 0;
  std::memcpy(&length, map, kLengthBytes);
  if (length > kMaxHeaderBytes) return invalid("a header of ", length, " bytes");
  const int64_t header_bytes = static_cast<int64_t>(length);
  if (header_bytes > map_bytes - kLengthBytes) {
    return damaged("the header needs ", header_bytes, " bytes, the file has ", map_bytes - kLengthBytes);
  }
  const char* const header = map + kLengthBytes;
  if (header_bytes == 0 || header[0] != '{') return invalid("the header does not start with '{'");

  std::vector<HeaderEntry> entries;
  std::string current = "header";
  try {
    const Json json = Json::parse(header, header + header_bytes);
    for (const auto& [name, value] : json.items()) {
      current = name;
      if (name == "__metadata__") {
        metadata_ = value.get<std::map<std::string, std::string>>();
      } else {
        entries.push_back(ParseEntry(name, value));
      }
    }
  } catch (const std::exception& error) {
    return invalid(current, ": ", error.what());
  }

  std::stable_sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::make_pair(a.begin, a.end) < std::make_pair(b.begin, b.end);
  });
  const int64_t data_bytes = map_bytes - kLengthBytes - header_bytes;
  const char* const data = header + header_bytes;
  int64_t expected_begin = 0;
  for (HeaderEntry& entry : entries) {
    const std::string& name = entry.info.name;
    if (entry.begin != expected_begin || entry.end < entry.begin) {
      return damaged("tensor ", name, " lies at bytes [", entry.begin, ", ", entry.end, "), expected to start at ", expected_begin);
    }
    if (entry.end > data_bytes) return damaged("tensor ", name, " ends at byte ", entry.end, ", the file has ", data_bytes);
    const absl::optional<int64_t> needed = CheckedBytes(entry.info.shape, BytesPerElement(entry.info.type));
    if (!needed.has_value() || *needed != entry.end - entry.begin) {
      return damaged("tensor ", name, " of shape [", absl::StrJoin(entry.info.shape, ", "), "] ", TensorTypeName(entry.info.type), " has ",
                     entry.end - entry.begin, " bytes");
    }
    bytes_.push_back(absl::MakeConstSpan(data + entry.begin, entry.end - entry.begin));
    expected_begin = entry.end;
    tensors_.push_back(std::move(entry.info));
  }
  if (expected_begin != data_bytes) return damaged("tensors end at byte ", expected_begin, ", the file has ", data_bytes);
  return absl::OkStatus();
}

absl::StatusOr<TensorView> SafetensorsReader::Find(absl::string_view name) const {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].name == name) return TensorView{&tensors_[i], bytes_[i]};
  }
  return absl::NotFoundError(absl::StrCat(path(), ": no tensor '", name, "'"));
}

SafetensorsWriter::SafetensorsWriter(std::string path, std::string temporary_path, int fd, std::vector<TensorInfo> tensors)
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), fd_(fd), tensors_(std::move(tensors)) {}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(const std::string& path, std::vector<TensorInfo> tensors,
                                                                             const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<int64_t> offsets;
  int64_t begin = 0;
  for (const TensorInfo& tensor : tensors) {
    const absl::optional<int64_t> bytes = CheckedBytes(tensor.shape, BytesPerElement(tensor.type));
    if (!bytes.has_value() || *bytes > std::numeric_limits<int64_t>::max() / 2 - begin) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", tensor.name, " of shape [", absl::StrJoin(tensor.shape, ", "), "]"));
    }
    if (tensor.name == "__metadata__" || header.contains(tensor.name)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor name '", tensor.name, "' is taken"));
    }
    header[tensor.name] = {{"dtype", TensorTypeName(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {begin, begin + *bytes}}};
    offsets.push_back(begin);
    begin += *bytes;
  }
  // Names that are not UTF-8 are replaced rather than thrown at: the format knows only UTF-8.
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');  // The bytes start aligned.
  const int64_t data_start = kLengthBytes + static_cast<int64_t>(text.size());
  const uint64_t length = text.size();
  std::string prefix(reinterpret_cast<const char*>(&length), kLengthBytes);
  prefix += text;

  const std::string temporary = TemporaryPath(path);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus(errno, temporary);
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(path, temporary, fd, std::move(tensors)));
  for (int64_t offset : offsets) writer->offsets_.push_back(data_start + offset);
  writer->written_.assign(writer->tensors_.size(), 0);
  if (absl::Status status = WriteAll(fd, absl::MakeConstSpan(prefix.data(), prefix.size()), 0, temporary); !status.ok()) return status;
  return writer;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_path_.c_str());
}

absl::Status SafetensorsWriter::Append(size_t index, absl::Span<const char> bytes) {
  const TensorInfo& tensor = tensors_[index];
  const int64_t count = static_cast<int64_t>(bytes.size());
  if (count > tensor.byte_count() - written_[index]) {
    return absl::OutOfRangeError(
        absl::StrCat(path_, ": tensor ", tensor.name, ": ", written_[index] + count, " bytes, it has ", tensor.byte_count()));
  }
  if (absl::Status status = WriteAll(fd_, bytes, offsets_[index] + written_[index], temporary_path_); !status.ok()) return status;
  written_[index] += count;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (written_[i] == tensors_[i].byte_count()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": tensor ", tensors_[i].name, ": ", written_[i], " of ", tensors_[i].byte_count(), " bytes were written"));
  }
  if (::fsync(fd_) != 0) return ErrnoStatus(errno, temporary_path_);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) return ErrnoStatus(errno, path_);
  ::close(fd_);
  fd_ = -1;
  return SyncFolderOf(path_);
}

}  // namespace myriad
