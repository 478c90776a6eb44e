#include "server/store/stored_heads.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "server/store/folders.h"

namespace myriad {
namespace {

constexpr char kHeads[] = "/heads";
constexpr char kRestoring[] = "/restoring";
constexpr char kReplaced[] = "/replaced";

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return FileError(error, folder);
  std::sort(names.begin(), names.end());
  return names;
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

}  // namespace

std::string StoredHeads::Under(const char* folder, const std::string& head) const { return absl::StrCat(store_, folder, "/", head); }

std::string StoredHeads::PathOf(const std::string& head) const { return Under(kHeads, head); }

std::string StoredHeads::PathOfNext(const std::string& head) const { return Under(kRestoring, head); }

absl::Status StoredHeads::PutInPlace(const std::string& head) const {
  const std::string path = PathOf(head);
  const std::string old = Under(kReplaced, head);
  if (Exists(path)) {
    if (absl::Status status = RemoveAll(old); !status.ok()) return status;
    if (absl::Status status = Rename(path, old); !status.ok()) return status;
    if (absl::Status status = SyncFolder(store_ + kReplaced); !status.ok()) {
      Rename(old, path).IgnoreError();  // Else Recover() does.
      return status;
    }
  }
  if (absl::Status status = Rename(PathOfNext(head), path); !status.ok()) {
    Rename(old, path).IgnoreError();
    return status;
  }
  if (absl::Status status = SyncFolder(store_ + kHeads); !status.ok()) return status;
  return RemoveAll(old);
}

StoredHeads::~StoredHeads() {
  if (lock_ >= 0) ::close(lock_);
}

absl::Status StoredHeads::Lock() {
  if (lock_ >= 0) return absl::OkStatus();
  if (absl::Status status = CreateFolders(store_); !status.ok()) return status;
  const std::string path = store_ + "/lock";
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return FileError(std::error_code(errno, std::generic_category()), path);
  // Of the open file: gone with the process, however that ends.
  if (::flock(file, LOCK_EX | LOCK_NB) == 0) {
    lock_ = file;
    return absl::OkStatus();
  }
  const std::error_code error(errno, std::generic_category());
  ::close(file);
  if (error == std::errc::operation_would_block) {
    return absl::FailedPreconditionError(absl::StrCat(store_, ": another server has this store open"));
  }
  return FileError(error, path);
}

absl::StatusOr<std::vector<std::string>> StoredHeads::Recover() {
  if (absl::Status status = Lock(); !status.ok()) return status;
  for (const char* folder : {kHeads, kRestoring, kReplaced}) {
    if (absl::Status status = CreateFolders(store_ + folder); !status.ok()) return status;
  }
  const absl::StatusOr<std::vector<std::string>> replaced = NamesIn(store_ + kReplaced);
  if (!replaced.ok()) return replaced.status();
  for (const std::string& head : *replaced) {
    // Nothing in its place: nobody was told that it has another one.
    const std::string old = Under(kReplaced, head);
    if (absl::Status status = Exists(PathOf(head)) ? RemoveAll(old) : Rename(old, PathOf(head)); !status.ok()) return status;
  }
  const absl::StatusOr<std::vector<std::string>> restoring = NamesIn(store_ + kRestoring);
  if (!restoring.ok()) return restoring.status();
  for (const std::string& head : *restoring) {
    if (absl::Status status = RemoveAll(PathOfNext(head)); !status.ok()) return status;
  }
  absl::StatusOr<std::vector<std::string>> paths = NamesIn(store_ + kHeads);
  if (!paths.ok()) return paths.status();
  for (std::string& path : *paths) path = PathOf(path);
  return paths;
}

}  // namespace myriad
