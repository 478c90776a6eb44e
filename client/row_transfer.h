#ifndef MYRIAD_CLIENT_ROW_TRANSFER_H_
#define MYRIAD_CLIENT_ROW_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/head_client.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "head/head_spec.h"
#include "head/partitions.h"

namespace myriad {

// Rows of a head to and from the shards that own them, outside of any step: HeadClient's FetchCenters, ReadRows and WriteRows. A stream
// of rows may take any time, but each message of it no more than the policy's deadline. The shards outlive it. Thread-compatible.
class RowTransfer {
 public:
  RowTransfer(const HeadSpec& head, std::vector<ShardClient*> shards, const CallPolicy& policy);

  absl::StatusOr<at::Tensor> Fetch(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) const;
  // Whole rows, by their place in `class_ids`.
  struct Rows {
    at::Tensor weights;        // class_ids.size() x D, as Fetch gives them.
    at::Tensor slots;          // class_ids.size() x the numbers of a row's slots; 0 rows where not asked for.
    std::vector<bool> exists;  // Else it is virtual.
  };
  absl::StatusOr<Rows> FetchRows(absl::Span<const int64_t> class_ids, bool with_slots) const;
  absl::Status Read(bool with_slots, const HeadClient::RowVisitor& visitor) const;
  // All rows that exist on shard `shard` at one instant. Errors: the visitor's, which end it; FAILED_PRECONDITION: a step waited for the
  // rows; those of FinalStatus().
  absl::Status ReadShard(int shard, bool with_slots, const HeadClient::RowVisitor& visitor) const;
  absl::Status Write(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) const;
  // What was written outlives the servers from now on, where they have a disk for it. Errors: those of the disk.
  absl::Status MakeDurable() const;

 private:
  // For each shard the positions in `class_ids` of its classes, by increasing class id (equal ids next to each other).
  absl::StatusOr<std::vector<std::vector<int64_t>>> Route(absl::Span<const int64_t> class_ids) const;
  absl::Status FetchFromShard(ShardClient& shard, absl::Span<const int64_t> class_ids, absl::Span<const int64_t> positions, bool with_slots,
                              Rows* rows) const;

  const HeadSpec head_;
  const Partitions partitions_;
  const std::vector<ShardClient*> shards_;
  const CallPolicy policy_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ROW_TRANSFER_H_
