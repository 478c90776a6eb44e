#include "server/store/stored_heads.h"

#include <algorithm>
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

absl::StatusOr<std::vector<std::string>> StoredHeads::Recover() const {
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
