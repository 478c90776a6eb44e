#ifndef MYRIAD_CLIENT_RUN_FOLDER_H_
#define MYRIAD_CLIENT_RUN_FOLDER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "myriad/config/v1/job.pb.h"
#include "myriad/v1/center_shard.pb.h"

namespace myriad {

// What a run leaves behind, and where:
//   config.textproto            the job configuration, every default filled in
//   metrics.jsonl               one JSON object a line
//   logs/server-K.log, logs/worker-R.log, logs/trace-R.json
//   backbone.safetensors
//   head/NAME/head.textproto    myriad.v1.HeadInfo
//   head/NAME/identities.tsv    the identity catalogue (identity_catalogue.h)
//   head/NAME/rows-*.safetensors  (head_rows.h)
//   saves/step-N/               what the run can go on from (run_saves.h)
//   store/shard-K/              the rows of shard K on its disk, and its part of the saves
// A value: paths alone. Files appear under their names only when they are complete.
class RunFolder {
 public:
  // Makes a new run's folder with logs/ and head/. Errors: FAILED_PRECONDITION naming the path: it exists and is not empty, or is a file;
  // others of the system.
  static absl::StatusOr<RunFolder> Create(const std::string& path);

  // For the processes of a run whose folder may have been made already: makes what is missing and refuses nothing that is there.
  static absl::StatusOr<RunFolder> Join(const std::string& path);

  // A finished or running run, to read. Errors: NOT_FOUND: no folder, or no config.textproto in it.
  static absl::StatusOr<RunFolder> Open(const std::string& path);

  // For a worker that starts a run in a folder which it did not make. Errors: FAILED_PRECONDITION naming the path: it has metrics, a
  // network or saves, which are another run's.
  absl::Status CheckUnused() const;

  const std::string& path() const { return path_; }
  std::string config_path() const;
  std::string metrics_path() const;
  std::string backbone_path() const;
  std::string server_log_path(int shard) const;
  std::string worker_log_path(int rank) const;
  std::string trace_path(int rank) const;
  std::string saves_folder() const;
  std::string head_folder(const std::string& head) const;
  std::string head_info_path(const std::string& head) const;
  std::string identities_path(const std::string& head) const;

  // Removes what a process of the run that ended while it wrote a file has left beside it. None may be writing now. Errors: those of the
  // system.
  absl::Status RemoveTemporaries() const;

  // Names of the heads with a head.textproto, sorted.
  absl::StatusOr<std::vector<std::string>> HeadNames() const;

  // For a run that has ended badly: where no step was reported (metrics.jsonl is missing or empty) and nothing saved, removes what Create
  // and the run's processes made, and the folder too if nothing else is in it. False, and nothing changes, where one was.
  bool RemoveIfNothingWasReported() const;

  absl::Status WriteConfig(const config::v1::JobConfig& config) const;

  // Makes head/NAME where it is missing. NAME is info.head().name().
  absl::Status WriteHeadInfo(const v1::HeadInfo& info) const;
  // Errors: NOT_FOUND naming the heads that are there; INVALID_ARGUMENT naming file and line.
  absl::StatusOr<v1::HeadInfo> ReadHeadInfo(const std::string& head) const;

 private:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_RUN_FOLDER_H_
