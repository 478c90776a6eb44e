#include "client/run_folder.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include <google/protobuf/text_format.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/file_util.h"
#include "client/job_config.h"
#include "client/run_saves.h"
#include "client/text_proto.h"

namespace myriad {

namespace fs = std::filesystem;

absl::StatusOr<RunFolder> RunFolder::Create(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status)) {
    if (!fs::is_directory(status)) return absl::FailedPreconditionError(absl::StrCat("run folder ", path, " is a file"));
    const bool empty = fs::is_empty(path, error);
    if (error) return ErrnoStatus(error.value(), path);
    if (!empty) return absl::FailedPreconditionError(absl::StrCat("run folder ", path, " is not empty; name another with --run-dir"));
  }
  return Join(path);
}

absl::StatusOr<RunFolder> RunFolder::Join(const std::string& path) {
  for (const std::string& folder : {path, JoinPath(path, "logs"), JoinPath(path, "head")}) {
    if (absl::Status status = MakeFolders(folder); !status.ok()) return status;
  }
  return RunFolder(path);
}

absl::StatusOr<RunFolder> RunFolder::Open(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return absl::NotFoundError(absl::StrCat("run folder ", path, " does not exist"));
  RunFolder folder(path);
  if (!fs::exists(folder.config_path(), error)) {
    return absl::NotFoundError(absl::StrCat(path, " is not a run folder: it has no config.textproto"));
  }
  return folder;
}

absl::Status RunFolder::CheckUnused() const {
  for (const std::string& path : {metrics_path(), backbone_path(), saves_folder()}) {
    std::error_code error;
    if (fs::exists(path, error)) return absl::FailedPreconditionError(absl::StrCat(path, " is of another run; name another run folder"));
  }
  return absl::OkStatus();
}

std::string RunFolder::config_path() const { return JoinPath(path_, "config.textproto"); }
std::string RunFolder::metrics_path() const { return JoinPath(path_, "metrics.jsonl"); }
std::string RunFolder::backbone_path() const { return JoinPath(path_, "backbone.safetensors"); }
std::string RunFolder::server_log_path(int shard) const { return JoinPath(path_, absl::StrCat("logs/server-", shard, ".log")); }
std::string RunFolder::worker_log_path(int rank) const { return JoinPath(path_, absl::StrCat("logs/worker-", rank, ".log")); }
std::string RunFolder::trace_path(int rank) const { return JoinPath(path_, absl::StrCat("logs/trace-", rank, ".json")); }
std::string RunFolder::saves_folder() const { return JoinPath(path_, "saves"); }
std::string RunFolder::head_folder(const std::string& head) const { return JoinPath(path_, absl::StrCat("head/", head)); }
std::string RunFolder::head_info_path(const std::string& head) const { return JoinPath(head_folder(head), "head.textproto"); }
std::string RunFolder::identities_path(const std::string& head) const { return JoinPath(head_folder(head), "identities.tsv"); }

absl::Status RunFolder::RemoveTemporaries() const {
  for (const std::string& folder : {path_, JoinPath(path_, "head"), saves_folder()}) {
    std::vector<fs::path> temporaries;
    std::error_code error;
    fs::recursive_directory_iterator it(folder, error);
    for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error)) {
      // At the top, files alone: logs and the store are the servers'.
      if (folder == path_) it.disable_recursion_pending();
      if (IsTemporary(it->path().filename().string())) temporaries.push_back(it->path());
    }
    if (error && error != std::errc::no_such_file_or_directory) return ErrnoStatus(error.value(), folder);
    for (const fs::path& path : temporaries) {
      fs::remove(path, error);
      if (error) return ErrnoStatus(error.value(), path.string());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RunFolder::HeadNames() const {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(JoinPath(path_, "head"), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (fs::exists(head_info_path(name), ignored)) names.push_back(name);
  }
  if (error) return ErrnoStatus(error.value(), JoinPath(path_, "head"));
  std::sort(names.begin(), names.end());
  return names;
}

bool RunFolder::RemoveIfNothingWasReported() const {
  std::error_code error;
  const uintmax_t size = fs::file_size(metrics_path(), error);
  if (error ? error != std::errc::no_such_file_or_directory : size > 0) return false;
  const absl::StatusOr<std::vector<RunSaves::Entry>> saves = RunSaves(saves_folder()).List();
  if (!saves.ok() || std::any_of(saves->begin(), saves->end(), [](const RunSaves::Entry& save) { return save.made; })) return false;
  for (const std::string& path :
       {config_path(), metrics_path(), saves_folder(), JoinPath(path_, "logs"), JoinPath(path_, "head"), JoinPath(path_, "store")}) {
    fs::remove_all(path, error);
  }
  fs::remove(path_, error);  // Stays if something else is in it.
  return true;
}

absl::Status RunFolder::WriteConfig(const config::v1::JobConfig& config) const {
  return WriteFileAtomically(config_path(), PrintJobConfig(config));
}

absl::Status RunFolder::WriteHeadInfo(const v1::HeadInfo& info) const {
  const std::string& name = info.head().name();
  if (absl::Status status = MakeFolders(head_folder(name)); !status.ok()) return status;
  std::string text;
  google::protobuf::TextFormat::PrintToString(info, &text);
  return WriteFileAtomically(head_info_path(name), text);
}

absl::StatusOr<v1::HeadInfo> RunFolder::ReadHeadInfo(const std::string& head) const {
  const std::string path = head_info_path(head);
  absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) {
    const absl::StatusOr<std::vector<std::string>> names = HeadNames();
    const std::string known = names.ok() && !names->empty() ? absl::StrCat("it has ", absl::StrJoin(*names, ", ")) : "it has none yet";
    return absl::NotFoundError(absl::StrCat("run folder ", path_, " has no head '", head, "'; ", known));
  }
  if (!text.ok()) return text.status();
  v1::HeadInfo info;
  if (absl::Status status = ParseText(*text, path, &info); !status.ok()) return status;
  return info;
}

}  // namespace myriad
