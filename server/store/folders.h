#ifndef MYRIAD_SERVER_STORE_FOLDERS_H_
#define MYRIAD_SERVER_STORE_FOLDERS_H_

#include <string>
#include <system_error>

#include "absl/status/status.h"

namespace myriad {

// What saves and heads do with folders on disk. Errors: RESOURCE_EXHAUSTED (disk full), UNAVAILABLE (any other); all name the path.
absl::Status FileError(const std::error_code& error, const std::string& path);
// What was written to the file, or which names are in the folder, is durable when it returns.
absl::Status SyncFile(const std::string& path);
absl::Status SyncFolder(const std::string& path);
// OK if there is nothing.
absl::Status RemoveAll(const std::string& path);
absl::Status CreateFolders(const std::string& path);
absl::Status Rename(const std::string& from, const std::string& to);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_FOLDERS_H_
