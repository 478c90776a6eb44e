#include <utility>

#include "absl/strings/str_cat.h"
#include "client/head_rows.h"
#include "client/head_source.h"
#include "client/run_folder.h"
#include "head/virtual_rows.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

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
    const absl::StatusOr<std::unique_ptr<HeadRowsReader>> rows = HeadRowsReader::Open(folder_.head_folder(head.spec.name));
    if (!rows.ok()) return rows.status();
    if ((*rows)->embedding_dim() != head.spec.embedding_dim) {
      return absl::DataLossError(absl::StrCat(folder_.head_folder(head.spec.name), ": rows are ", (*rows)->embedding_dim(),
                                              " wide; head.textproto says ", head.spec.embedding_dim));
    }
    std::vector<Center> centers;
    for (int64_t class_id : class_ids) {
      Center center;
      center.class_id = class_id;
      if (absl::optional<HeadRowsReader::Row> row = (*rows)->Find(class_id); row.has_value()) {
        center.exists = true;
        center.values = std::move(row->weights);
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
