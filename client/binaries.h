#ifndef MYRIAD_CLIENT_BINARIES_H_
#define MYRIAD_CLIENT_BINARIES_H_

#include <string>

#include "absl/status/statusor.h"

namespace myriad {

// The folder of the running program, links resolved. Errors: those of the system.
absl::StatusOr<std::string> OwnFolder();

// The path of `name` (for example "myriad-server"), looked for in `own_folder`, then at ../`package`/`name` from there, where a build tree
// has it. Errors: NOT_FOUND naming both places.
absl::StatusOr<std::string> FindBinary(const std::string& own_folder, const std::string& package, const std::string& name);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BINARIES_H_
