#ifndef MYRIAD_CLIENT_ADMIN_HEAD_H_
#define MYRIAD_CLIENT_ADMIN_HEAD_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/head_source.h"
#include "client/row_transfer.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "head/head_spec.h"

namespace myriad {

// A head on all of its shards, for the verbs that read all of it or change it: what its shards say that it is, and calls to them in their
// order. Thread-compatible.
class AdminHead {
 public:
  // `addresses` in any order. `name` may be empty where there is one head only. A call may take `timeout`.
  // Errors: as HeadSource::Heads; NOT_FOUND naming the heads that are there; INVALID_ARGUMENT: `addresses` are not all of its shards.
  static absl::StatusOr<std::unique_ptr<AdminHead>> Open(const std::vector<std::string>& addresses, const std::string& name,
                                                         absl::Duration timeout);

  // Makes the head on the shards, the first of `addresses` being shard 0, where it is not there yet, and opens it. Errors: also
  // FAILED_PRECONDITION: another head or another order of shards is there under its name.
  static absl::StatusOr<std::unique_ptr<AdminHead>> Create(const HeadSpec& spec, const std::vector<std::string>& addresses,
                                                           absl::Duration timeout);

  // As of the last look.
  const HeadSummary& summary() const { return summary_; }
  const HeadSpec& spec() const { return summary_.spec; }
  const std::vector<ShardClient*>& shards() const { return shards_; }
  const CallPolicy& policy() const { return policy_; }
  const RowTransfer& rows() const { return *rows_; }

  // FAILED_PRECONDITION naming the shard if a step is under way there, or if steps were committed since the last look: a run trains the
  // head. A run that rests between two steps is not seen.
  absl::Status CheckNoSteps();

 private:
  AdminHead(HeadSummary summary, absl::Duration timeout);

  HeadSummary summary_;
  std::vector<std::unique_ptr<ShardClient>> owned_;
  std::vector<ShardClient*> shards_;
  CallPolicy policy_;
  std::unique_ptr<RowTransfer> rows_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ADMIN_HEAD_H_
