#include "client/head_rows.h"

#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/file_util.h"
#include "head/type_names.h"

namespace myriad {

std::map<std::string, std::string> RowFileMetadata(const HeadSpec& head, int64_t committed_steps, bool slots) {
  std::map<std::string, std::string> metadata = {{"head", head.name}, {"committed_steps", absl::StrCat(committed_steps)}};
  if (slots) {
    metadata["optimizer"] = std::string(NameOf(head.slots));
    metadata["slot_dtype"] = std::string(NameOf(head.slot_dtype));
  }
  return metadata;
}

std::string HeadRowsPath(const std::string& folder, int index, int count) {
  return JoinPath(folder, absl::StrFormat("rows-%05d-of-%05d.safetensors", index, count));
}

absl::StatusOr<std::vector<std::string>> HeadRowsFiles(const std::string& folder) {
  int count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    int index = 0;
    int of = 0;
    if (name.size() != std::strlen("rows-00000-of-00001.safetensors") || !absl::SimpleAtoi(name.substr(5, 5), &index) ||
        !absl::SimpleAtoi(name.substr(14, 5), &of) || JoinPath(folder, name) != HeadRowsPath(folder, index, of)) {
      continue;
    }
    if (count != 0 && count != of) {
      return absl::DataLossError(absl::StrCat(folder, ": rows files of two sets, of ", count, " and of ", of));
    }
    count = of;
  }
  if (error) return ErrnoStatus(error.value(), folder);
  if (count == 0) return absl::NotFoundError(absl::StrCat(folder, ": no rows-*.safetensors"));
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    paths.push_back(HeadRowsPath(folder, i, count));
    if (!std::filesystem::exists(paths.back(), error))
      return absl::DataLossError(absl::StrCat(paths.back(), ": missing of a set of ", count));
  }
  return paths;
}

}  // namespace myriad
