#include "worker/data/image_file_list.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/file_util.h"
#include "worker/data/split_content.h"

namespace myriad {
namespace {

bool HasImageName(const std::filesystem::path& path) {
  const std::string extension = absl::AsciiStrToLower(path.extension().string());
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

absl::Status ListError(const std::string& dir, const std::error_code& error) {
  const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  const std::string message = absl::StrCat(dir, ": ", error.message());
  return missing ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

// Adds what lies below `dir`; `name` is its path below the root, empty for the root itself.
absl::Status Walk(const std::string& dir, const std::string& name, std::map<std::string, std::vector<std::string>>* images,
                  ImageFileList* list) {
  std::error_code error;
  std::filesystem::directory_iterator entries(dir, error);
  if (error) return ListError(dir, error);
  bool empty = true;
  for (const std::filesystem::directory_iterator end; entries != end; entries.increment(error)) {
    if (error) return ListError(dir, error);
    const std::string file = entries->path().filename().string();
    if (file[0] == '.') continue;
    const bool is_folder = entries->is_directory(error);
    if (error && error != std::errc::no_such_file_or_directory) return ListError(entries->path().string(), error);
    empty = empty && !is_folder;
    if (is_folder) {
      const std::string below = name.empty() ? file : absl::StrCat(name, "/", file);
      if (absl::Status status = Walk(entries->path().string(), below, images, list); !status.ok()) return status;
    } else if (!HasImageName(entries->path())) {
      list->other_files.push_back(entries->path().string());
    } else if (name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(entries->path().string(), ": the image lies in no identity's folder"));
    } else {
      empty = false;
      (*images)[name].push_back(entries->path().string());
    }
  }
  if (error) return ListError(dir, error);
  if (empty && !name.empty()) list->empty_folders.push_back(dir);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImageFileList> ListImageFolder(const std::string& dir) {
  ImageFileList list;
  std::map<std::string, std::vector<std::string>> images;
  if (absl::Status status = Walk(dir, "", &images, &list); !status.ok()) return status;
  if (images.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(dir, ": no JPEG or PNG file in any folder below it (one folder per identity is needed)"));
  }
  std::sort(list.other_files.begin(), list.other_files.end());
  std::sort(list.empty_folders.begin(), list.empty_folders.end());
  for (auto& [name, paths] : images) {
    if (absl::Status status = ValidateIdentityName(name); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(dir, ": ", status.message()));
    }
    std::sort(paths.begin(), paths.end());
    list.labels.insert(list.labels.end(), paths.size(), static_cast<int64_t>(list.identities.size()));
    list.paths.insert(list.paths.end(), std::make_move_iterator(paths.begin()), std::make_move_iterator(paths.end()));
    list.identities.push_back(name);
  }
  return list;
}

absl::StatusOr<ImageFileList> ReadImageList(const std::string& file) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return text.status();
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  ImageFileList list;
  absl::flat_hash_map<std::string, int64_t> label_of_name;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const std::vector<std::string> columns = absl::StrSplit(line, '\t');
    if (columns.size() != 2 || columns[0].empty() || !ValidateIdentityName(columns[1]).ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": line ", number, " is \"", line.substr(0, 120), "\"; path<TAB>identity name is needed"));
    }
    const auto [it, fresh] = label_of_name.emplace(columns[1], list.identities.size());
    if (fresh) list.identities.push_back(columns[1]);
    list.labels.push_back(it->second);
    list.paths.push_back((folder / columns[0]).string());
  }
  if (list.paths.empty()) return absl::InvalidArgumentError(absl::StrCat(file, ": no line with an image"));
  return list;
}

}  // namespace myriad
