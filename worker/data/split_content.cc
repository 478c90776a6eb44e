#include "worker/data/split_content.h"

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/file_util.h"
#include "worker/data/file_io.h"

namespace myriad {
namespace {

// int64 little-endian [count]; empty, with a problem, if the file has another size.
std::vector<int64_t> ReadNumbers(const std::string& path, int64_t count, ProblemList* problems) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they lie in the file");
  const absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) {
    problems->Add(file.status());
    return {};
  }
  const int64_t bytes = count * static_cast<int64_t>(sizeof(int64_t));
  if ((*file)->size() != bytes) {
    problems->Add(absl::DataLossError(
        absl::StrCat(path, ": the file has ", (*file)->size(), " bytes; ", bytes, " are needed for ", count, " numbers")));
    return {};
  }
  std::vector<int64_t> numbers(count);
  if (absl::Status status = (*file)->ReadAt(0, bytes, numbers.data()); !status.ok()) {
    problems->Add(status);
    return {};
  }
  return numbers;
}

// The size of the file of images must be that of raw images, or the last offset. Returns whether it is.
bool CheckImagesSize(const std::string& path, int64_t expected, const std::string& why, ProblemList* problems) {
  const absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) {
    problems->Add(file.status());
    return false;
  }
  if ((*file)->size() != expected) {
    problems->Add(
        absl::DataLossError(absl::StrCat(path, ": the file has ", (*file)->size(), " bytes; ", expected, " are needed for ", why)));
  }
  return (*file)->size() == expected;
}

}  // namespace

absl::Status ValidateIdentityName(const std::string& name) {
  if (name.empty()) return absl::InvalidArgumentError("an identity has an empty name");
  if (name.find_first_of("\t\n\r") != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("identity \"", name, "\" has a tab or a line break in its name"));
  }
  return absl::OkStatus();
}

std::vector<std::string> ReadIdentities(const std::string& file, ProblemList* problems) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) {
    problems->Add(text.status());
    return {};
  }
  std::vector<std::string> names;
  absl::flat_hash_map<std::string, int64_t> line_of_name;
  absl::string_view left = *text;
  while (!left.empty()) {
    const size_t end = left.find('\n');
    absl::string_view line = left.substr(0, end);
    left.remove_prefix(end == absl::string_view::npos ? left.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    names.emplace_back(line.substr(0, line.find('\t')));
    if (names.back().empty()) {
      problems->Add(absl::InvalidArgumentError(absl::StrCat(file, ": line ", names.size(), " has no name")));
      continue;
    }
    const auto [it, fresh] = line_of_name.emplace(names.back(), names.size());
    if (!fresh) {
      problems->Add(absl::InvalidArgumentError(
          absl::StrCat(file, ": lines ", it->second, " and ", names.size(), " have the same name \"", names.back(), "\"")));
    }
  }
  if (names.empty()) problems->Add(absl::InvalidArgumentError(absl::StrCat(file, ": no identity")));
  return names;
}

SplitContent LoadSplitContent(const std::string& dir, const DatasetJson& dataset, const SplitFiles& split, ProblemList* problems) {
  const auto in_dir = [&dir](const std::string& name) { return absl::StrCat(dir, "/", name); };
  SplitContent content;
  content.identities = ReadIdentities(in_dir(split.identities), problems);
  const int64_t identity_count = content.identities.size();
  if (problems->full()) return content;

  content.labels = ReadNumbers(in_dir(split.labels), split.count, problems);
  for (size_t i = 0; i < content.labels.size() && !problems->full() && identity_count > 0; ++i) {
    const int64_t label = content.labels[i];
    if (label >= 0 && label < identity_count) continue;
    problems->Add(absl::InvalidArgumentError(absl::StrCat(in_dir(split.labels), ": label ", label, " of image ", i, " is outside [0, ",
                                                          identity_count, "), the lines of ", split.identities)));
  }
  if (problems->full()) return content;

  if (dataset.encoding == ImageEncoding::kRaw) {
    const int64_t bytes = split.count * dataset.image_size * dataset.image_size * dataset.channels;
    content.images_readable = CheckImagesSize(
        in_dir(split.images), bytes,
        absl::StrCat(split.count, " raw images of ", dataset.image_size, " x ", dataset.image_size, " x ", dataset.channels), problems);
    return content;
  }
  const std::string offsets_file = in_dir(split.offsets);
  content.offsets = ReadNumbers(offsets_file, split.count + 1, problems);
  if (content.offsets.empty()) return content;
  const size_t before = problems->problems().size();
  if (content.offsets[0] != 0) {
    problems->Add(absl::InvalidArgumentError(absl::StrCat(offsets_file, ": the first offset is ", content.offsets[0], "; 0 is needed")));
  }
  for (int64_t i = 0; i < split.count && !problems->full(); ++i) {
    if (content.offsets[i + 1] > content.offsets[i]) continue;
    problems->Add(absl::InvalidArgumentError(absl::StrCat(offsets_file, ": offset ", content.offsets[i + 1], " of image ", i + 1,
                                                          " does not lie after offset ", content.offsets[i], " of image ", i)));
  }
  if (problems->problems().size() > before) return content;
  content.images_readable =
      CheckImagesSize(in_dir(split.images), content.offsets.back(), absl::StrCat("the last offset of ", split.offsets), problems);
  return content;
}

}  // namespace myriad
