#include "worker/save_run.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "client/file_util.h"
#include "client/head_rows.h"
#include "client/row_file_writer.h"
#include "myriad/v1/center_shard.pb.h"
#include "proto/wire/head_codec.h"
#include "worker/peer_watch.h"

namespace myriad {
namespace {

// Those of an earlier end of the run: files of two sets would be one too many.
absl::Status RemoveRows(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<fs::path> rows;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (absl::StartsWith(it->path().filename().string(), "rows-") && it->path().extension() == ".safetensors") rows.push_back(it->path());
  }
  for (size_t i = 0; !error && i < rows.size(); ++i) fs::remove(rows[i], error);
  return error ? ErrnoStatus(error.value(), folder) : absl::OkStatus();
}

// The rows of all shards as they come, into a file for each.
absl::Status WriteRows(const SavedHead& head, const HeadSpec& spec, bool slots, const std::string& folder) {
  std::vector<std::unique_ptr<RowFileWriter>> files(head.shard_count);
  const auto begin = [&](int shard, int64_t row_count) -> absl::Status {
    RowFileWriter::Options options;
    options.path = HeadRowsPath(folder, shard, head.shard_count);
    options.head = spec;
    options.committed_steps = head.committed_steps;
    options.row_count = row_count;
    options.slots = slots;
    options.dtype = spec.weight_dtype;
    absl::StatusOr<std::unique_ptr<RowFileWriter>> file = RowFileWriter::Create(options);
    if (file.ok()) files[shard] = *std::move(file);
    return file.status();
  };
  absl::Status status = PeerLostIfShardIs(head.client->ReadRows(slots, [&](const RowBatch& batch) -> absl::Status {
    if (files[batch.shard] == nullptr) {
      if (absl::Status begun = begin(batch.shard, batch.shard_row_count); !begun.ok()) return begun;
    }
    return files[batch.shard]->Append(batch.class_ids, batch.weights.const_data_ptr<float>(),
                                      slots ? batch.slots.const_data_ptr<float>() : nullptr);
  }));
  for (int shard = 0; status.ok() && shard < head.shard_count; ++shard) {
    if (files[shard] == nullptr) status = begin(shard, 0);
    if (status.ok()) status = files[shard]->Finish();
  }
  return status;
}

}  // namespace

absl::Status SaveHead(const SavedHead& head, config::v1::TrainingConfig::FinalRows rows, const RunFolder& folder) {
  using config::v1::TrainingConfig;
  const absl::StatusOr<HeadSpec> spec = ParseHeadSpec(head.config->spec());
  if (!spec.ok()) return spec.status();
  const std::string path = folder.head_folder(spec->name);
  absl::Status status = MakeFolders(path);
  if (status.ok()) status = head.catalogue->Save(folder.identities_path(spec->name));
  if (status.ok()) status = RemoveRows(path);
  if (status.ok() && rows != TrainingConfig::FINAL_ROWS_NONE) {
    status = WriteRows(head, *spec, rows == TrainingConfig::FINAL_ROWS_WEIGHTS_AND_SLOTS, path);
  }
  if (!status.ok()) return status;
  const absl::StatusOr<HeadOnShards> found = head.client->Describe();
  if (!found.ok()) return PeerLostIfShardIs(found.status());

  v1::HeadInfo info;
  *info.mutable_head() = head.config->spec();
  *info.mutable_training() = head.config->training();
  info.set_incarnation(head.incarnation);
  info.set_committed_steps(head.committed_steps);
  info.set_row_count(found->row_count);
  info.set_shard_count(head.shard_count);
  return folder.WriteHeadInfo(info);
}

}  // namespace myriad
