#include "server/store/shard_saves.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/status.h"
#include "server/store/folders.h"

namespace myriad {

namespace fs = std::filesystem;

namespace {

constexpr size_t kLongestName = 100;
constexpr char kRows[] = "/rows";
constexpr char kState[] = "/state";

absl::Status CheckName(const char* what, const std::string& name) {
  const auto allowed = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_'; };
  if (!name.empty() && name.size() <= kLongestName && name[0] != '.' && std::all_of(name.begin(), name.end(), allowed)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(what, " \"", name.substr(0, kLongestName), "\" must be 1 to ", kLongestName,
                                                 " letters, digits, '.', '-' or '_', not beginning with '.'"));
}

// A file appears under its name once it is whole and durable.
absl::Status WriteWhole(const std::string& path, const std::string& bytes) {
  const std::string temporary = path + ".tmp";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) return FileError(std::error_code(errno, std::generic_category()), temporary);
  if (absl::Status status = SyncFile(temporary); !status.ok()) return status;
  if (absl::Status status = Rename(temporary, path); !status.ok()) return status;
  return SyncFolder(fs::path(path).parent_path().string());
}

absl::StatusOr<HeadState> ReadState(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": no such save"));
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  absl::StatusOr<HeadState> state = ParseHeadState(bytes);
  if (!state.ok()) return Annotate(state.status(), path);
  return state;
}

}  // namespace

absl::Status ShardSaves::CheckKept() const {
  if (!folder_.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError("this server has no --store: it keeps no saves");
}

absl::StatusOr<std::string> ShardSaves::PathOf(const std::string& save, const std::string& head) const {
  if (absl::Status status = CheckKept(); !status.ok()) return status;
  if (absl::Status status = CheckName("save", save); !status.ok()) return status;
  if (absl::Status status = CheckName("head", head); !status.ok()) return status;
  return absl::StrCat(folder_, "/", save, "/", head);
}

absl::Status ShardSaves::Make(const std::string& save, const HeadState& state,
                              const std::function<absl::Status(const std::string& folder)>& copy) const {
  const absl::StatusOr<std::string> path = PathOf(save, state.head.name);
  if (!path.ok()) return path.status();
  const absl::StatusOr<HeadState> made = Find(save, state.head.name);
  if (made.ok()) {
    if (made->incarnation == state.incarnation && made->committed_steps == state.committed_steps) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("save ", save, " of head '", state.head.name, "' is there already, of step ",
                                                      made->committed_steps, " and incarnation ", made->incarnation, "; the call has step ",
                                                      state.committed_steps, " and incarnation ", state.incarnation));
  }
  if (!absl::IsNotFound(made.status())) return made.status();
  if (absl::Status status = RemoveAll(*path); !status.ok()) return status;
  if (absl::Status status = CreateFolders(*path); !status.ok()) return status;
  if (absl::Status status = copy(*path + kRows); !status.ok()) return status;
  for (const std::string& folder : {*path + kRows, *path, absl::StrCat(folder_, "/", save), folder_}) {
    if (absl::Status status = SyncFolder(folder); !status.ok()) return status;
  }
  HeadState record = state;
  record.clean = true;
  record.presence.clear();
  return WriteWhole(*path + kState, SerializeHeadState(record));
}

absl::StatusOr<HeadState> ShardSaves::Find(const std::string& save, const std::string& head) const {
  const absl::StatusOr<std::string> path = PathOf(save, head);
  if (!path.ok()) return path.status();
  return ReadState(*path + kState);
}

absl::Status ShardSaves::CopyRows(const std::string& save, const std::string& head, const std::string& folder) const {
  const absl::StatusOr<std::string> path = PathOf(save, head);
  if (!path.ok()) return path.status();
  if (absl::Status status = RemoveAll(folder); !status.ok()) return status;
  if (absl::Status status = CreateFolders(folder); !status.ok()) return status;
  std::error_code error;
  for (fs::directory_iterator entry(*path + kRows, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path target = fs::path(folder) / entry->path().filename();
    // Tables are never changed once they are written; everything else may be.
    if (entry->path().extension() == ".sst") {
      fs::create_hard_link(entry->path(), target, error);
    } else {
      fs::copy_file(entry->path(), target, error);
      if (!error) {
        if (absl::Status status = SyncFile(target.string()); !status.ok()) return status;
      }
    }
    if (error) return FileError(error, target.string());
  }
  if (error) return FileError(error, *path + kRows);
  return SyncFolder(folder);
}

absl::Status ShardSaves::Drop(const std::string& save, const std::string& head) const {
  const absl::StatusOr<std::string> path = PathOf(save, head);
  if (!path.ok()) return path.status();
  if (absl::Status status = RemoveAll(*path + kState); !status.ok()) return status;
  if (absl::Status status = RemoveAll(*path); !status.ok()) return status;
  std::error_code ignored;  // Another head's may lie beside it.
  fs::remove(absl::StrCat(folder_, "/", save), ignored);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ShardSaves::Entry>> ShardSaves::List() const {
  if (absl::Status status = CheckKept(); !status.ok()) return status;
  std::vector<Entry> entries;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    if (it.depth() < 1) continue;
    it.disable_recursion_pending();
    absl::StatusOr<HeadState> state = ReadState(it->path().string() + kState);
    if (absl::IsNotFound(state.status())) continue;
    entries.push_back({it->path().parent_path().filename().string(), it->path().filename().string(), std::move(state)});
  }
  if (error && error != std::errc::no_such_file_or_directory) return FileError(error, folder_);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::tie(a.save, a.head) < std::tie(b.save, b.head); });
  return entries;
}

}  // namespace myriad
