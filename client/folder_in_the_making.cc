#include "client/folder_in_the_making.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"

namespace myriad {

absl::StatusOr<std::unique_ptr<FolderInTheMaking>> FolderInTheMaking::Create(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !(std::filesystem::is_directory(path, error) && std::filesystem::is_empty(path, error))) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": exists and is not an empty folder"));
  }
  std::string final_path = path;
  while (final_path.size() > 1 && final_path.back() == '/') final_path.pop_back();
  const std::string temporary = absl::StrCat(final_path, ".tmp-", ::getpid());
  // What another process of the same number left when it was killed is no part of this folder.
  std::filesystem::remove_all(temporary, error);
  if (error) return ErrnoStatus(error.value(), temporary);
  if (absl::Status status = MakeFolders(temporary); !status.ok()) return status;
  return std::unique_ptr<FolderInTheMaking>(new FolderInTheMaking(temporary, final_path));
}

FolderInTheMaking::~FolderInTheMaking() {
  std::error_code ignored;  // What stays behind has a name that says what it is.
  if (!complete_) std::filesystem::remove_all(path_, ignored);
}

absl::Status FolderInTheMaking::Complete() {
  std::error_code error;
  std::filesystem::rename(path_, final_path_, error);  // In place of an empty folder too.
  if (error) return ErrnoStatus(error.value(), final_path_);
  complete_ = true;
  return SyncFolderOf(final_path_);
}

}  // namespace myriad
