#ifndef MYRIAD_CLIENT_SHARD_STATISTICS_H_
#define MYRIAD_CLIENT_SHARD_STATISTICS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "myriad/v1/shard_admin.pb.h"

namespace myriad {

// The figures of several servers, in their order, asked at once. Errors: as PendingCalls::Wait.
absl::StatusOr<std::vector<v1::GetStatisticsResponse>> ReadStatistics(absl::Span<ShardClient* const> shards, const CallPolicy& policy);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_SHARD_STATISTICS_H_
