#include "worker/run_saver.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/peer_watch.h"

namespace myriad {

using storage::v1::SavedHead;
using storage::v1::SaveManifest;

namespace {

uint64_t Checksum(const IdentityCatalogue& catalogue) { return XXH3_64bits(catalogue.text().data(), catalogue.text().size()); }

// Whether the run is that of the save, which lies at `path`.
absl::Status CheckFits(const SaveManifest& manifest, const std::string& path, const std::vector<SaverHead>& heads, int64_t image_count) {
  const auto differ = [&path](const auto& what, const auto& saved, const auto& now) {
    return absl::FailedPreconditionError(absl::StrCat(path, " has ", saved, " ", what, "; this run has ", now));
  };
  if (manifest.heads_size() != static_cast<int>(heads.size())) return differ("heads", manifest.heads_size(), heads.size());
  for (size_t h = 0; h < heads.size(); ++h) {
    const SavedHead& saved = manifest.heads(static_cast<int>(h));
    const std::string of_head = absl::StrCat(" of head ", heads[h].name);
    if (saved.name() != heads[h].name) return differ("as head", saved.name(), heads[h].name);
    if (saved.shard_count() != heads[h].shard_count) return differ("shards" + of_head, saved.shard_count(), heads[h].shard_count);
    if (saved.identity_count() != heads[h].catalogue->size()) {
      return differ("identities" + of_head, saved.identity_count(), heads[h].catalogue->size());
    }
    if (saved.identities_xxh3() != Checksum(*heads[h].catalogue)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " has other names", of_head,
                                                        "'s identities than the data sets now: their class ids would not be those saved"));
    }
  }
  if (manifest.position().image_count() != image_count) return differ("images", manifest.position().image_count(), image_count);
  return absl::OkStatus();
}

// On all shards. Errors: NOT_FOUND, DATA_LOSS: some part of the save is missing or damaged; others as RestoreSave.
absl::Status RestoreHeads(const SaveManifest& manifest, const std::vector<SaverHead>& heads) {
  for (size_t h = 0; h < heads.size(); ++h) {
    const SavedHead& saved = manifest.heads(static_cast<int>(h));
    const absl::StatusOr<int64_t> committed = heads[h].saves->Restore(saved.save());
    if (absl::IsUnavailable(committed.status())) return PeerLostError(std::string(committed.status().message()));
    if (!committed.ok()) return committed.status();
    if (*committed == saved.committed_steps()) continue;
    return absl::DataLossError(absl::StrCat("the shards have head ", saved.name(), " in it after ", *committed,
                                            " steps; the manifest says ", saved.committed_steps()));
  }
  return absl::OkStatus();
}

}  // namespace

SaveManifest RunSaver::Plan(const RunPosition& position) const {
  SaveManifest plan;
  plan.set_step(position.steps);
  plan.set_rank_count(parts_.network.collectives->rank_count());
  for (const SaverHead& head : parts_.heads) {
    SavedHead* saved = plan.add_heads();
    saved->set_name(head.name);
    saved->set_committed_steps(head.first_step + position.steps);
    saved->set_incarnation(head.incarnation);
    saved->set_shard_count(head.shard_count);
    saved->set_save(absl::StrCat(RunSaves::Name(position.steps), ".", head.incarnation));
    saved->set_identity_count(head.catalogue->size());
    saved->set_identities_xxh3(Checksum(*head.catalogue));
  }
  plan.mutable_position()->set_image_count(parts_.image_count);
  plan.mutable_position()->set_skipped_count(position.skipped);
  plan.mutable_position()->set_metrics_bytes(position.metrics_bytes);
  plan.mutable_position()->set_unverified(position.unverified);
  *plan.mutable_position()->mutable_window() = position.window.ToProto();
  return plan;
}

absl::Status RunSaver::Save(const RunPosition& position) {
  const bool first = parts_.network.collectives->rank() == 0;
  const SaveManifest plan = first ? Plan(position) : SaveManifest();
  absl::Status status;
  if (first) status = parts_.saves.Begin(plan);
  if (first && status.ok()) status = SaveHeads(plan);
  if (IsPeerLost(status)) return status;
  // Whatever has failed here, the other ranks are on their way into this.
  const absl::StatusOr<std::vector<std::string>> files =
      SaveNetwork(parts_.network, first && status.ok() ? parts_.saves.PathOf(RunSaves::Name(plan.step())) : "");
  if (IsPeerLost(files.status())) return files.status();
  if (status.ok()) status = files.status();
  if (first && status.ok()) status = parts_.saves.Finish(plan, *files);
  if (first && status.ok()) status = DropOld();
  if (first && !status.ok()) {
    // Its files would keep the room that it lacked. What stays even so is dropped after the next save.
    const absl::Status dropped = DropUnfinished();
    if (IsPeerLost(dropped)) return dropped;
  }
  const absl::Status together = parts_.network.collectives->Barrier();
  return together.ok() ? status : together;
}

absl::Status RunSaver::SaveHeads(const SaveManifest& plan) {
  for (int h = 0; h < plan.heads_size(); ++h) {
    const SavedHead& head = plan.heads(h);
    absl::Status status = parts_.heads[h].saves->Save(head.incarnation(), head.committed_steps(), head.save());
    if (!status.ok()) return PeerLostIfShardIs(status);
  }
  return absl::OkStatus();
}

absl::Status RunSaver::Drop(const RunSaves::Entry& entry) {
  if (absl::Status status = parts_.saves.Retire(entry.name); !status.ok()) return status;
  for (const SavedHead& saved : entry.manifest.heads()) {
    const auto head =
        std::find_if(parts_.heads.begin(), parts_.heads.end(), [&](const SaverHead& head) { return head.name == saved.name(); });
    if (head == parts_.heads.end()) continue;
    if (absl::Status status = head->saves->Drop(saved.save()); !status.ok()) return PeerLostIfShardIs(status);
  }
  return parts_.saves.Remove(entry.name);
}

absl::Status RunSaver::DropUnfinished() {
  absl::StatusOr<std::vector<RunSaves::Entry>> entries = parts_.saves.List();
  if (!entries.ok()) return entries.status();
  for (const RunSaves::Entry& entry : *entries) {
    if (entry.made) continue;
    if (absl::Status status = Drop(entry); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status RunSaver::DropOld() {
  absl::StatusOr<std::vector<RunSaves::Entry>> entries = parts_.saves.List();
  if (!entries.ok()) return entries.status();
  int64_t made = std::count_if(entries->begin(), entries->end(), [](const RunSaves::Entry& entry) { return entry.made; });
  for (const RunSaves::Entry& entry : *entries) {
    if (!entry.made || made <= parts_.keep_saves) continue;
    if (absl::Status status = Drop(entry); !status.ok()) return status;
    --made;
  }
  return DropUnfinished();
}

absl::Status RunSaver::DropAfter(int64_t step) {
  absl::StatusOr<std::vector<RunSaves::Entry>> entries = parts_.saves.List();
  if (!entries.ok()) return entries.status();
  for (const RunSaves::Entry& entry : *entries) {
    if (entry.made && entry.name <= RunSaves::Name(step)) continue;
    if (absl::Status status = Drop(entry); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<SaveManifest> RestoreSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                         const std::function<void(const std::string&)>& print) {
  std::vector<std::string> not_whole;
  int64_t before = std::numeric_limits<int64_t>::max();
  while (true) {
    std::vector<std::string> refused;
    absl::StatusOr<SaveManifest> manifest = saves.NewestBefore(before, &refused);
    not_whole.insert(not_whole.end(), refused.begin(), refused.end());
    if (!manifest.ok() && !not_whole.empty()) return absl::DataLossError(absl::StrJoin(not_whole, "; "));
    if (!manifest.ok()) return manifest.status();
    const std::string path = saves.PathOf(RunSaves::Name(manifest->step()));
    absl::Status status = CheckFits(*manifest, path, heads, image_count);
    if (!status.ok()) return status;
    status = RestoreHeads(*manifest, heads);
    if (status.ok()) {
      for (const std::string& line : not_whole) print(line);
      return manifest;
    }
    if (!absl::IsNotFound(status) && !absl::IsDataLoss(status)) return status;
    not_whole.push_back(absl::StrCat("save ", path, " is not whole: ", status.message()));
    before = manifest->step();
  }
}

RunPosition PositionOf(const SaveManifest& manifest) {
  RunPosition position;
  position.steps = manifest.step();
  position.skipped = manifest.position().skipped_count();
  position.window = StepWindow::FromProto(manifest.position().window());
  position.metrics_bytes = manifest.position().metrics_bytes();
  position.unverified = manifest.position().unverified();
  return position;
}

}  // namespace myriad
