#include "worker/job_saves.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/head_codec.h"
#include "worker/peer_watch.h"

namespace myriad {

using storage::v1::SaveManifest;

int64_t ImageCount(const JobData& data) {
  int64_t images = 0;
  for (const std::unique_ptr<Dataset>& dataset : data.datasets) images += dataset->size();
  return images;
}

absl::StatusOr<std::vector<std::unique_ptr<HeadSaves>>> MakeAllHeadSaves(const config::v1::JobConfig& config,
                                                                         const std::vector<std::string>& shard_addresses,
                                                                         absl::Duration patience) {
  std::vector<std::unique_ptr<HeadSaves>> saves;
  for (const config::v1::HeadConfig& entry : config.heads()) {
    absl::StatusOr<HeadSpec> spec = ParseHeadSpec(entry.spec());
    if (!spec.ok()) return spec.status();
    saves.push_back(MakeHeadSaves(*spec, shard_addresses, patience));
  }
  return saves;
}

std::vector<SaverHead> SaverHeads(const config::v1::JobConfig& config, const JobData& data,
                                  absl::Span<const std::unique_ptr<HeadSaves>> saves, int shard_count) {
  std::vector<SaverHead> heads;
  for (int h = 0; h < config.heads_size(); ++h) {
    SaverHead head;
    head.name = config.heads(h).spec().name();
    head.saves = saves[h].get();
    head.catalogue = &data.catalogues[h];
    head.shard_count = shard_count;
    heads.push_back(std::move(head));
  }
  return heads;
}

absl::StatusOr<SaveManifest> ShareSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                       const std::function<void(const std::string&)>& print, Collectives* collectives) {
  std::string found;
  if (collectives->rank() == 0) {
    absl::StatusOr<SaveManifest> manifest = RestoreSave(saves, heads, image_count, print);
    if (!manifest.ok()) return manifest.status();
    found = manifest->SerializeAsString();
  }
  const absl::StatusOr<std::string> shared = collectives->ShareFromRankZero("save", found);
  if (!shared.ok()) return shared.status();
  SaveManifest from;
  if (!from.ParseFromString(*shared)) return absl::InternalError("rank 0 shared a save that cannot be parsed");
  return from;
}

bool GoesOn(const SaveManifest& from) { return from.version() != 0; }

absl::StatusOr<bool> WillSave(const config::v1::TrainingConfig& config, bool required, absl::Span<const std::unique_ptr<HeadSaves>> saves,
                              const std::function<void(const std::string&)>& print, Collectives* collectives) {
  if (config.keep_saves() == 0) return false;
  std::string answer = "yes";
  if (collectives->rank() == 0) {
    for (const std::unique_ptr<HeadSaves>& head : saves) {
      absl::Status status = head->CheckPossible();
      if (status.ok()) continue;
      if (!absl::IsFailedPrecondition(status) || required) return PeerLostIfShardIs(status);
      print(absl::StrCat("no saves are made: ", status.message()));
      answer = "no";
      break;
    }
  }
  const absl::StatusOr<std::string> shared = collectives->ShareFromRankZero("saves", answer);
  if (!shared.ok()) return shared.status();
  return *shared == "yes";
}

}  // namespace myriad
