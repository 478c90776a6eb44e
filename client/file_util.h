#ifndef MYRIAD_CLIENT_FILE_UTIL_H_
#define MYRIAD_CLIENT_FILE_UTIL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace myriad {

// "PATH: what the system says", with the code that errno stands for: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk full),
// FAILED_PRECONDITION (a file where a folder should be, and the like), else UNAVAILABLE.
absl::Status ErrnoStatus(int error, const std::string& path);

// The whole file. Errors as ErrnoStatus.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes a file under another name, makes it durable and renames it: a reader sees the old content or the new. Errors as ErrnoStatus.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content);

// The name under which this process writes a file until it is whole, and whether some process has written one under that name.
std::string TemporaryPath(const std::string& path);
bool IsTemporary(absl::string_view name);

// Makes a folder and its parents. OK if it is there.
absl::Status MakeFolders(const std::string& path);

// write() until all is written, at `offset`. `path` is for the message.
absl::Status WriteAll(int fd, absl::Span<const char> bytes, int64_t offset, const std::string& path);

// Makes a rename in the folder of `path` durable.
absl::Status SyncFolderOf(const std::string& path);

// "a/b" + "c" = "a/b/c".
std::string JoinPath(absl::string_view folder, absl::string_view name);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_FILE_UTIL_H_
