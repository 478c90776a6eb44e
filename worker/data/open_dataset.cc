#include "worker/data/open_dataset.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/data/dataset_json.h"
#include "worker/data/file_io.h"
#include "worker/data/image_file_dataset.h"
#include "worker/data/image_file_list.h"
#include "worker/data/packed_dataset.h"
#include "worker/data/split_content.h"

namespace myriad {
namespace {

absl::StatusOr<SplitFiles> FindSplit(const std::string& path, const DatasetJson& json, const std::string& split) {
  const auto it = json.splits.find(split);
  if (it != json.splits.end()) return it->second;
  const std::string names =
      absl::StrJoin(json.splits, ", ", [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); });
  return absl::NotFoundError(absl::StrCat(path, "/dataset.json: no split \"", split, "\"; there are: ", names));
}

absl::StatusOr<std::unique_ptr<Dataset>> OpenPacked(const std::string& path, const std::string& split, const OpenDatasetOptions& options) {
  const absl::StatusOr<DatasetJson> json = ReadDatasetJson(path);
  if (!json.ok()) return json.status();
  const absl::StatusOr<SplitFiles> files = FindSplit(path, *json, split);
  if (!files.ok()) return files.status();
  ProblemList problems(/*limit=*/1);
  SplitContent content = LoadSplitContent(path, *json, *files, &problems);
  if (!problems.first().ok()) return problems.first();
  return PackedDataset::Create(path, *json, *files, std::move(content), options.image_size, options.channels);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const std::string& path, const std::string& split, DatasetFormat format,
                                                     const OpenDatasetOptions& options) {
  if (options.image_size < 0 || options.image_size > DatasetJson::kMaxImageSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("image_size is ", options.image_size, "; 0 or a number in [1, ", DatasetJson::kMaxImageSize, "] is needed"));
  }
  if (options.channels != 0 && options.channels != 1 && options.channels != 3) {
    return absl::InvalidArgumentError(absl::StrCat("channels is ", options.channels, "; 0, 1 or 3 is needed"));
  }
  if (!FileExists(path)) return absl::NotFoundError(absl::StrCat(path, ": the data folder does not exist"));
  if (!IsDirectory(path)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a folder"));
  if (format == DatasetFormat::kAuto) {
    format = FileExists(absl::StrCat(path, "/dataset.json")) ? DatasetFormat::kDatasetJson : DatasetFormat::kFolder;
  }
  const std::string wanted = split.empty() ? "train" : split;
  if (format == DatasetFormat::kDatasetJson) return OpenPacked(path, wanted, options);
  if (wanted != "train") {
    return absl::NotFoundError(
        absl::StrCat(path, ": no split \"", wanted, "\"; a folder tree without dataset.json has the one split train"));
  }
  absl::StatusOr<ImageFileList> list = ListImageFolder(path);
  if (!list.ok()) return list.status();
  return ImageFileDataset::Create(*std::move(list), options.image_size, options.channels);
}

absl::StatusOr<std::vector<VerificationPair>> OpenPairs(const std::string& path, const std::string& split) {
  if (!FileExists(path)) return absl::NotFoundError(absl::StrCat(path, ": the data folder does not exist"));
  const absl::StatusOr<DatasetJson> json = ReadDatasetJson(path);
  if (!json.ok()) return json.status();
  const absl::StatusOr<SplitFiles> files = FindSplit(path, *json, split);
  if (!files.ok()) return files.status();
  if (files->pairs.empty()) return absl::NotFoundError(absl::StrCat(path, "/dataset.json: split \"", split, "\" has no pairs"));
  return ReadPairs(absl::StrCat(path, "/", files->pairs), files->count);
}

}  // namespace myriad
