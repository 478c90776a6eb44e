#include "worker/save_run.h"

#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "client/file_util.h"
#include "client/head_rows.h"
#include "myriad/v1/center_shard.pb.h"
#include "proto/wire/head_codec.h"
#include "worker/peer_watch.h"

namespace myriad {
namespace {

absl::Span<const float> Floats(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) return {};
  return absl::MakeConstSpan(tensor.const_data_ptr<float>(), tensor.numel());
}

}  // namespace

absl::Status SaveHead(const SavedHead& head, const RunFolder& folder) {
  const v1::HeadSpec& spec = head.config->spec();
  const std::string path = folder.head_folder(spec.name());
  absl::Status status = MakeFolders(path);
  if (!status.ok()) return status;
  status = head.catalogue->Save(folder.identities_path(spec.name()));
  if (!status.ok()) return status;

  const absl::StatusOr<HeadSpec> parsed = ParseHeadSpec(spec);
  if (!parsed.ok()) return parsed.status();
  HeadRowsWriter::Options options;
  options.folder = path;
  options.head = *parsed;
  absl::StatusOr<std::unique_ptr<HeadRowsWriter>> writer = HeadRowsWriter::Create(options);
  if (!writer.ok()) return writer.status();
  int64_t row_count = 0;
  status = PeerLostIfShardIs(head.client->ReadRows(
      /*with_slots=*/true, [&](absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) {
        row_count += static_cast<int64_t>(class_ids.size());
        return (*writer)->Append(class_ids, Floats(weights.contiguous()), Floats(slots.contiguous()));
      }));
  if (!status.ok()) return status;
  status = (*writer)->Finish(head.committed_steps);
  if (!status.ok()) return status;

  v1::HeadInfo info;
  *info.mutable_head() = spec;
  *info.mutable_training() = head.config->training();
  info.set_incarnation(head.incarnation);
  info.set_committed_steps(head.committed_steps);
  info.set_row_count(row_count);
  info.set_shard_count(head.shard_count);
  return folder.WriteHeadInfo(info);
}

}  // namespace myriad
