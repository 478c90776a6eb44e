#include "client/binaries.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/file_util.h"

namespace myriad {

absl::StatusOr<std::string> OwnFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoStatus(error.value(), "/proc/self/exe");
  return self.parent_path().string();
}

absl::StatusOr<std::string> FindBinary(const std::string& own_folder, const std::string& package, const std::string& name) {
  const std::string beside = JoinPath(own_folder, name);
  const std::string in_build_tree = std::filesystem::path(absl::StrCat(own_folder, "/../", package, "/", name)).lexically_normal().string();
  for (const std::string& path : {beside, in_build_tree}) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::NotFoundError(absl::StrCat(name, " is neither at ", beside, " nor at ", in_build_tree));
}

}  // namespace myriad
