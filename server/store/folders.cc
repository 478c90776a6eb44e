#include "server/store/folders.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

absl::Status Sync(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return FileError(std::error_code(errno, std::generic_category()), path);
  // Some file systems cannot sync a folder and say EINVAL.
  const int error = ::fsync(fd) != 0 && errno != EINVAL ? errno : 0;
  ::close(fd);
  return error == 0 ? absl::OkStatus() : FileError(std::error_code(error, std::generic_category()), path);
}

absl::Status OkUnless(const std::error_code& error, const std::string& path) { return error ? FileError(error, path) : absl::OkStatus(); }

}  // namespace

absl::Status FileError(const std::error_code& error, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", error.message());
  return error == std::errc::no_space_on_device ? absl::ResourceExhaustedError(message) : absl::UnavailableError(message);
}

absl::Status SyncFile(const std::string& path) { return Sync(path, O_RDONLY); }

absl::Status SyncFolder(const std::string& path) { return Sync(path, O_RDONLY | O_DIRECTORY); }

absl::Status RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return OkUnless(error, path);
}

absl::Status CreateFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return OkUnless(error, path);
}

absl::Status Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::rename(from, to, error);
  return OkUnless(error, to);
}

}  // namespace myriad
