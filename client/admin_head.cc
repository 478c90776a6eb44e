#include "client/admin_head.h"

#include "absl/strings/str_cat.h"
#include "client/shard_statistics.h"
#include "proto/wire/head_codec.h"

namespace myriad {

AdminHead::AdminHead(HeadSummary summary, absl::Duration timeout) : summary_(std::move(summary)) {
  for (const HeadSummary::Shard& shard : summary_.shards) {
    owned_.push_back(std::make_unique<ShardClient>(shard.index, shard.address));
    shards_.push_back(owned_.back().get());
  }
  policy_.deadline = timeout;
  policy_.lost_code = absl::StatusCode::kUnavailable;
  rows_ = std::make_unique<RowTransfer>(summary_.spec, shards_, policy_);
}

absl::StatusOr<std::unique_ptr<AdminHead>> AdminHead::Open(const std::vector<std::string>& addresses, const std::string& name,
                                                           absl::Duration timeout) {
  absl::StatusOr<std::unique_ptr<HeadSource>> source = OpenShardSource(addresses, timeout);
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::vector<HeadSummary>> heads = (*source)->Heads();
  if (!heads.ok()) return heads.status();
  absl::StatusOr<HeadSummary> head = ChooseHead(*heads, name);
  if (!head.ok()) return head.status();
  if (absl::Status status = CheckAllShards(*head); !status.ok()) return status;
  return std::unique_ptr<AdminHead>(new AdminHead(*std::move(head), timeout));
}

absl::StatusOr<std::unique_ptr<AdminHead>> AdminHead::Create(const HeadSpec& spec, const std::vector<std::string>& addresses,
                                                             absl::Duration timeout) {
  HeadSummary summary;
  summary.spec = spec;
  summary.shard_count = static_cast<int>(addresses.size());
  for (const std::string& address : addresses) summary.shards.push_back({address, static_cast<int>(summary.shards.size()), 0});
  const std::unique_ptr<AdminHead> made(new AdminHead(std::move(summary), timeout));
  std::vector<v1::CreateHeadRequest> requests(made->shards_.size());
  ShardCalls<v1::CreateHeadRequest, v1::CreateHeadResponse> calls(
      [](ShardClient& shard, grpc::ClientContext* rpc, const v1::CreateHeadRequest* request, v1::CreateHeadResponse* response,
         PendingCalls::Done done) { shard.admin().async()->CreateHead(rpc, request, response, std::move(done)); },
      made->policy_);
  for (size_t k = 0; k < requests.size(); ++k) {
    *requests[k].mutable_head() = ToProto(spec);
    requests[k].set_shard_index(static_cast<int32_t>(k));
    requests[k].set_shard_count(static_cast<int32_t>(requests.size()));
    calls.Start(made->shards_[k], &requests[k]);
  }
  if (absl::Status status = calls.Wait(); !status.ok()) return status;
  return Open(addresses, spec.name, timeout);
}

absl::Status AdminHead::CheckNoSteps() {
  const absl::StatusOr<std::vector<v1::GetStatisticsResponse>> servers = ReadStatistics(shards_, policy_);
  if (!servers.ok()) return servers.status();
  for (size_t k = 0; k < servers->size(); ++k) {
    for (const v1::HeadStatistics& head : (*servers)[k].heads()) {
      if (head.head() != spec().name) continue;
      if (head.open_steps() > 0 || head.committed_steps() != summary_.committed_steps) {
        return absl::FailedPreconditionError(absl::StrCat(shards_[k]->Name(), ": a run trains head ", spec().name, ", which is at step ",
                                                          head.committed_steps(), "; stop the run first"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace myriad
