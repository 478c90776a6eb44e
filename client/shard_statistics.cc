#include "client/shard_statistics.h"

#include <utility>

namespace myriad {

absl::StatusOr<std::vector<v1::GetStatisticsResponse>> ReadStatistics(absl::Span<ShardClient* const> shards, const CallPolicy& policy) {
  const v1::GetStatisticsRequest request;
  ShardCalls<v1::GetStatisticsRequest, v1::GetStatisticsResponse> calls(
      [](ShardClient& shard, grpc::ClientContext* rpc, const v1::GetStatisticsRequest* asked, v1::GetStatisticsResponse* response,
         PendingCalls::Done done) { shard.admin().async()->GetStatistics(rpc, asked, response, std::move(done)); },
      policy);
  for (ShardClient* shard : shards) calls.Start(shard, &request);
  if (absl::Status status = calls.Wait(); !status.ok()) return status;
  std::vector<v1::GetStatisticsResponse> responses;
  for (size_t k = 0; k < calls.size(); ++k) responses.push_back(calls.response(k));
  return responses;
}

}  // namespace myriad
