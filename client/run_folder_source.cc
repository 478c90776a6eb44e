#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/head_rows.h"
#include "client/head_source.h"
#include "client/row_file.h"
#include "client/run_folder.h"
#include "head/virtual_rows.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

// Fills in those of `rows` that are in a file. One pass over its class ids: they come in the order of a shard.
absl::Status FindRows(const std::string& path, const HeadSpec& spec,
                      absl::flat_hash_map<int64_t, absl::optional<std::vector<float>>>* rows) {
  const absl::StatusOr<RowFile> file = OpenRowFile(path, /*with_slots=*/false);
  if (!file.ok()) return file.status();
  if (!file->class_ids.has_value()) return absl::DataLossError(absl::StrCat(path, ": has no class_ids"));
  if (file->weights.cols() != spec.embedding_dim) {
    return absl::DataLossError(absl::StrCat(path, ": rows are ", file->weights.cols(), " wide; head.textproto says ", spec.embedding_dim));
  }
  for (int64_t row = 0; row < file->weights.rows(); ++row) {
    const auto wanted = rows->find(file->ClassIdAt(row));
    if (wanted == rows->end()) continue;
    wanted->second.emplace(spec.embedding_dim);
    file->weights.Copy(row, 1, wanted->second->data());
  }
  return absl::OkStatus();
}

class RunFolderSource : public HeadSource {
 public:
  explicit RunFolderSource(RunFolder folder) : folder_(std::move(folder)) {}

  absl::StatusOr<std::vector<HeadSummary>> Heads() override {
    const absl::StatusOr<std::vector<std::string>> names = folder_.HeadNames();
    if (!names.ok()) return names.status();
    if (names->empty()) {
      return absl::NotFoundError(absl::StrCat("run folder ", folder_.path(), " has no head; a run saves its heads when it ends"));
    }
    std::vector<HeadSummary> heads;
    for (const std::string& name : *names) {
      const absl::StatusOr<v1::HeadInfo> info = folder_.ReadHeadInfo(name);
      if (!info.ok()) return info.status();
      HeadSummary head;
      const absl::StatusOr<HeadSpec> spec = ParseHeadSpec(info->head());
      if (!spec.ok()) return Annotate(spec.status(), folder_.head_info_path(name));
      head.spec = *spec;
      if (info->has_training()) {
        const absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(info->training(), head.spec);
        if (!training.ok()) return Annotate(training.status(), folder_.head_info_path(name));
        head.training = *training;
      }
      head.incarnation = info->incarnation();
      head.committed_steps = info->committed_steps();
      head.row_count = info->row_count();
      head.shard_count = info->shard_count();
      heads.push_back(std::move(head));
    }
    return heads;
  }

  absl::StatusOr<std::vector<Center>> FetchCenters(const HeadSummary& head, absl::Span<const int64_t> class_ids) override {
    const std::string folder = folder_.head_folder(head.spec.name);
    const absl::StatusOr<std::vector<std::string>> paths = HeadRowsFiles(folder);
    if (absl::IsNotFound(paths.status())) {
      return absl::NotFoundError(absl::StrCat(paths.status().message(), ": the run left its rows with the shards (training.final_rows); ",
                                              "`myriad admin export` writes them to files"));
    }
    if (!paths.ok()) return paths.status();
    absl::flat_hash_map<int64_t, absl::optional<std::vector<float>>> rows;
    for (int64_t class_id : class_ids) rows[class_id] = absl::nullopt;
    for (const std::string& path : *paths) {
      if (absl::Status status = FindRows(path, head.spec, &rows); !status.ok()) return status;
    }
    std::vector<Center> centers;
    for (int64_t class_id : class_ids) {
      Center center;
      center.class_id = class_id;
      if (const absl::optional<std::vector<float>>& row = rows[class_id]; row.has_value()) {
        center.exists = true;
        center.values = *row;
      } else {
        center.values.resize(head.spec.embedding_dim);
        FillVirtualRow(head.spec, class_id, center.values.data());
      }
      centers.push_back(std::move(center));
    }
    return centers;
  }

 private:
  const RunFolder folder_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HeadSource>> OpenRunFolderSource(const std::string& run_dir) {
  absl::StatusOr<RunFolder> folder = RunFolder::Open(run_dir);
  if (!folder.ok()) return folder.status();
  return std::unique_ptr<HeadSource>(std::make_unique<RunFolderSource>(*std::move(folder)));
}

}  // namespace myriad
