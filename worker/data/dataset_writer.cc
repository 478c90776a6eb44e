#include "worker/data/dataset_writer.h"

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"
#include "worker/data/split_content.h"

namespace myriad {
namespace {

absl::Status WriteFile(const std::string& path, absl::string_view bytes) {
  absl::StatusOr<std::unique_ptr<FileWriter>> file = FileWriter::Create(path);
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(bytes); !status.ok()) return status;
  return (*file)->Close();
}

absl::string_view BytesOf(const std::vector<int64_t>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(int64_t)};
}

absl::Status FileSystemError(const std::string& path, const std::error_code& error) {
  return absl::UnavailableError(absl::StrCat(path, ": ", error.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatasetWriter>> DatasetWriter::Create(const std::string& dir, int image_size, int channels,
                                                                     ImageEncoding encoding) {
  // A trailing slash would put the unfinished folder inside.
  std::string path = std::filesystem::path(dir).lexically_normal().string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  std::error_code error;
  if (FileExists(path) && !(IsDirectory(path) && std::filesystem::is_empty(path, error))) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": exists and is not an empty folder; nothing is overwritten"));
  }
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  if (error) return FileSystemError(parent.string(), error);
  const std::string temp_dir = absl::StrCat(path, ".partial-", getpid());
  if (!std::filesystem::create_directory(temp_dir, error)) {
    return error ? FileSystemError(temp_dir, error) : absl::AlreadyExistsError(absl::StrCat(temp_dir, ": exists already"));
  }
  std::unique_ptr<DatasetWriter> writer(new DatasetWriter(path, temp_dir));
  writer->json_.image_size = image_size;
  writer->json_.channels = channels;
  writer->json_.encoding = encoding;
  return writer;
}

DatasetWriter::~DatasetWriter() {
  if (finished_) return;
  splits_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(temp_dir_, ignored);
}

absl::Status DatasetWriter::AddSplit(const std::string& name, const std::vector<std::string>& identities) {
  Split split;
  split.identity_count = identities.size();
  split.files.images = absl::StrCat(name, ".images");
  if (json_.encoding != ImageEncoding::kRaw) split.files.offsets = absl::StrCat(name, ".offsets");
  split.files.labels = absl::StrCat(name, ".labels");
  split.files.identities = absl::StrCat(name, ".identities.tsv");
  std::string lines;
  for (const std::string& identity : identities) {
    if (absl::Status status = ValidateIdentityName(identity); !status.ok()) return status;
    absl::StrAppend(&lines, identity, "\n");
  }
  if (absl::Status status = AddFile(split.files.identities, lines); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<FileWriter>> images = FileWriter::Create(absl::StrCat(temp_dir_, "/", split.files.images));
  if (!images.ok()) return images.status();
  split.images = *std::move(images);
  split.offsets.push_back(0);
  splits_[name] = std::move(split);
  return absl::OkStatus();
}

absl::Status DatasetWriter::AddImage(const std::string& name, int64_t label, absl::string_view bytes) {
  Split& split = splits_.at(name);
  const int64_t raw_bytes = int64_t{json_.image_size} * json_.image_size * json_.channels;
  if (label < 0 || label >= split.identity_count) {
    return absl::InternalError(absl::StrCat("label ", label, " of a new image is outside [0, ", split.identity_count, ")"));
  }
  if (bytes.empty() || (json_.encoding == ImageEncoding::kRaw && static_cast<int64_t>(bytes.size()) != raw_bytes)) {
    return absl::InternalError(absl::StrCat("a new image has ", bytes.size(), " bytes"));
  }
  if (absl::Status status = split.images->Write(bytes); !status.ok()) return status;
  split.labels.push_back(label);
  split.offsets.push_back(split.images->size());
  return absl::OkStatus();
}

absl::Status DatasetWriter::SetPairs(const std::string& name, absl::Span<const VerificationPair> pairs) {
  SplitFiles& files = splits_.at(name).files;
  files.pairs = absl::StrCat(name, ".pairs.tsv");
  return AddFile(files.pairs, FormatPairs(pairs));
}

absl::Status DatasetWriter::AddFile(const std::string& name, absl::string_view text) {
  return WriteFile(absl::StrCat(temp_dir_, "/", name), text);
}

absl::Status DatasetWriter::Finish() {
  for (auto& [name, split] : splits_) {
    if (split.labels.empty()) return absl::FailedPreconditionError(absl::StrCat(dir_, ": split ", name, " would have no image"));
    if (absl::Status status = split.images->Close(); !status.ok()) return status;
    if (absl::Status status = AddFile(split.files.labels, BytesOf(split.labels)); !status.ok()) return status;
    if (!split.files.offsets.empty()) {
      if (absl::Status status = AddFile(split.files.offsets, BytesOf(split.offsets)); !status.ok()) return status;
    }
    split.files.count = split.labels.size();
    json_.splits[name] = split.files;
  }
  if (absl::Status status = AddFile("dataset.json", FormatDatasetJson(json_)); !status.ok()) return status;
  if (absl::Status status = SyncFolderOf(JoinPath(temp_dir_, "dataset.json")); !status.ok()) return status;
  // Takes the place of an empty folder too; a folder with something in it is refused by the system.
  if (std::rename(temp_dir_.c_str(), dir_.c_str()) != 0) return ErrnoStatus(errno, dir_);
  finished_ = true;
  return SyncFolderOf(dir_);
}

}  // namespace myriad
