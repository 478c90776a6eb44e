#include "worker/job_heads.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/head_codec.h"
#include "worker/job_saves.h"

namespace myriad {

absl::StatusOr<OpenHeads> OpenAllHeads(const config::v1::JobConfig& config, const std::vector<std::string>& shard_addresses,
                                       bool accept_mixed_steps, const storage::v1::SaveManifest& from, const HeadCheck& check,
                                       Collectives* collectives) {
  OpenHeads open;
  for (int h = 0; h < config.heads_size(); ++h) {
    const config::v1::HeadConfig& entry = config.heads(h);
    absl::StatusOr<HeadSpec> spec = ParseHeadSpec(entry.spec());
    if (!spec.ok()) return spec.status();
    absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(entry.training(), *spec);
    if (!training.ok()) return training.status();
    HeadClient::Options client_options;
    client_options.head = *spec;
    client_options.training = *training;
    client_options.shard_addresses = shard_addresses;
    client_options.rank = collectives->rank();
    client_options.rank_count = collectives->rank_count();
    client_options.labels_per_step = config.training().batch_size();
    client_options.exchange = collectives;
    client_options.accept_mixed_steps = accept_mixed_steps;
    if (GoesOn(from)) client_options.expected_step = from.heads(h).committed_steps();
    absl::StatusOr<std::unique_ptr<HeadClient>> client = HeadClient::Create(client_options);
    if (!client.ok()) return client.status();
    if (collectives->rank() == 0) {
      absl::Status status = (*client)->WaitForShards(kShardStartTimeout);
      if (!status.ok()) return status;
    }

    std::string minted;
    if (collectives->rank() == 0) {
      if (!GoesOn(from)) {
        const absl::StatusOr<HeadOnShards> found = (*client)->Describe();
        absl::Status status = found.ok() ? check(h, *found) : found.status();
        if (!status.ok()) return status;
      }
      absl::StatusOr<int64_t> incarnation = (*client)->MintIncarnation();
      if (!incarnation.ok()) return incarnation.status();
      minted = absl::StrCat(*incarnation);
    }
    absl::StatusOr<std::string> shared = collectives->ShareFromRankZero(absl::StrCat("incarnation/", spec->name), minted);
    if (!shared.ok()) return shared.status();
    int64_t incarnation = 0;
    if (!absl::SimpleAtoi(*shared, &incarnation)) return absl::InternalError(absl::StrCat("rank 0 shared incarnation \"", *shared, "\""));
    absl::StatusOr<int64_t> committed = (*client)->Open(incarnation);
    if (!committed.ok()) return committed.status();

    StepHead head;
    head.name = spec->name;
    head.client = client->get();
    head.loss_weight = entry.loss_weight();
    head.first_step = *committed - from.step();
    open.heads.push_back(std::move(head));
    open.clients.push_back(*std::move(client));
    open.incarnations.push_back(incarnation);
  }
  return open;
}

}  // namespace myriad
