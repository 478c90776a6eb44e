#ifndef MYRIAD_TESTS_TESTING_SERVER_SHARD_STUBS_H_
#define MYRIAD_TESTS_TESTING_SERVER_SHARD_STUBS_H_

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "myriad/v1/center_shard.grpc.pb.h"
#include "myriad/v1/shard_admin.grpc.pb.h"
#include "myriad/v1/shard_peer.grpc.pb.h"

namespace myriad {

// One shard as a program sees it that speaks the protocol by hand: requests are messages, errors come back as they went over the wire.
// Every call has a deadline of a minute. Thread-safe.
class ShardStubs {
 public:
  explicit ShardStubs(const std::string& address);

  v1::CenterShard::Stub& centers() { return *centers_; }
  v1::ShardAdmin::Stub& admin() { return *admin_; }
  v1::ShardPeer::Stub& peer() { return *peer_; }

  absl::StatusOr<v1::OpenHeadResponse> Open(const v1::OpenHeadRequest& request);
  absl::StatusOr<v1::HeadStepResponse> Step(const v1::HeadStepRequest& request);
  // The call in a thread of its own.
  std::future<absl::StatusOr<v1::HeadStepResponse>> StepAsync(const v1::HeadStepRequest& request);
  absl::Status Write(const v1::WriteRowsRequest& request);
  // All messages of the stream, or the status that it ended with.
  absl::StatusOr<std::vector<v1::FetchCentersResponse>> Fetch(const v1::FetchCentersRequest& request);
  // All rows that exist, or those of `class_ids`.
  absl::StatusOr<std::vector<v1::ReadRowsResponse>> ReadRows(const std::string& head, bool with_slots,
                                                             absl::Span<const int64_t> class_ids = {});
  absl::StatusOr<v1::HeadInfo> Info(const std::string& head);

 private:
  std::unique_ptr<v1::CenterShard::Stub> centers_;
  std::unique_ptr<v1::ShardAdmin::Stub> admin_;
  std::unique_ptr<v1::ShardPeer::Stub> peer_;
};

// A head of `class_count` x `dim`, trained with CosFace and SGD over all classes, on the shards at `addresses`.
v1::OpenHeadRequest MakeOpen(const std::string& name, int64_t class_count, int dim, const std::vector<std::string>& addresses, int shard,
                             int rank_count);
// A rank's part of a step with attempt 0, learning rate 0.1: embeddings (labels.size() x dim) drawn from `seed`.
v1::HeadStepRequest MakeStep(const v1::OpenHeadRequest& open, int64_t step, int rank, absl::Span<const int64_t> labels, uint32_t seed);
std::string PackIds(absl::Span<const int64_t> ids);
v1::Matrix PackMatrix(absl::Span<const float> data, int64_t rows, int64_t cols);

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_SHARD_STUBS_H_
