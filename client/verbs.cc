#include "client/verbs.h"

#include "client/binaries.h"

namespace myriad {

absl::StatusOr<std::string> Sibling(const std::string& given, const std::string& package, const std::string& name) {
  if (!given.empty()) return given;
  const absl::StatusOr<std::string> folder = OwnFolder();
  if (!folder.ok()) return folder.status();
  return FindBinary(*folder, package, name);
}

}  // namespace myriad
