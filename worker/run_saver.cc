#include "worker/run_saver.h"

#include <algorithm>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/peer_watch.h"

namespace myriad {

using storage::v1::SavedHead;
using storage::v1::SaveManifest;

namespace {

uint64_t Checksum(const IdentityCatalogue& catalogue) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (int64_t id = 0; id < catalogue.size(); ++id) {
    const absl::string_view name = catalogue.NameOf(id);
    XXH3_64bits_update(state.get(), name.data(), name.size());
    XXH3_64bits_update(state.get(), "\n", 1);
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace

absl::Status RunSaver::Save(const RunPosition& position) {
  const bool first = parts_.network.collectives->rank() == 0;
  SaveManifest manifest;
  manifest.set_step(position.steps);
  if (first) {
    manifest.set_rank_count(parts_.network.collectives->rank_count());
    for (const SaverHead& head : parts_.heads) {
      SavedHead* saved = manifest.add_heads();
      saved->set_name(head.name);
      saved->set_committed_steps(head.first_step + position.steps);
      saved->set_incarnation(head.incarnation);
      saved->set_shard_count(head.shard_count);
      saved->set_save(absl::StrCat(RunSaves::Name(position.steps), ".", head.incarnation));
      saved->set_identity_count(head.catalogue->size());
      saved->set_identities_xxh3(Checksum(*head.catalogue));
    }
    manifest.mutable_position()->set_image_count(parts_.image_count);
    manifest.mutable_position()->set_skipped_count(position.skipped);
    manifest.mutable_position()->set_metrics_bytes(position.metrics_bytes);
    manifest.mutable_position()->set_unverified(position.unverified);
    *manifest.mutable_position()->mutable_window() = position.window.ToProto();
    if (absl::Status status = parts_.saves.Begin(manifest); !status.ok()) return status;
    if (absl::Status status = SaveHeads(manifest); !status.ok()) return status;
  }
  const absl::StatusOr<std::vector<std::string>> files =
      SaveNetwork(parts_.network, first ? parts_.saves.PathOf(RunSaves::Name(position.steps)) : "");
  if (!files.ok()) return files.status();
  if (first) {
    if (absl::Status status = parts_.saves.Finish(std::move(manifest), *files); !status.ok()) return status;
    if (absl::Status status = DropOld(); !status.ok()) return status;
  }
  return parts_.network.collectives->Barrier();
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

absl::Status RunSaver::DropOld() {
  absl::StatusOr<std::vector<RunSaves::Entry>> entries = parts_.saves.List();
  if (!entries.ok()) return entries.status();
  const size_t kept = std::min<size_t>(entries->size(), parts_.keep_saves);
  for (size_t i = 0; i + kept < entries->size(); ++i) {
    if (absl::Status status = Drop((*entries)[i]); !status.ok()) return status;
  }
  return absl::OkStatus();
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

absl::StatusOr<SaveManifest> FindSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                      const std::function<void(const std::string&)>& print) {
  std::vector<std::string> refused;
  absl::StatusOr<SaveManifest> manifest = saves.Newest(&refused);
  if (!manifest.ok()) return manifest.status();
  for (const std::string& line : refused) print(line);
  const std::string path = saves.PathOf(RunSaves::Name(manifest->step()));
  const auto differ = [&path](const auto& what, const auto& saved, const auto& now) {
    return absl::FailedPreconditionError(absl::StrCat(path, " has ", saved, " ", what, "; this run has ", now));
  };
  if (manifest->heads_size() != static_cast<int>(heads.size())) return differ("heads", manifest->heads_size(), heads.size());
  for (size_t h = 0; h < heads.size(); ++h) {
    const SavedHead& saved = manifest->heads(static_cast<int>(h));
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
  if (manifest->position().image_count() != image_count) return differ("images", manifest->position().image_count(), image_count);
  return manifest;
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
