#ifndef MYRIAD_SERVER_STEP_PEER_CLIENT_H_
#define MYRIAD_SERVER_STEP_PEER_CLIENT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/step/vote.h"

namespace myriad {

// The other shards of a head, by index. Each call ends within about `timeout`, with DEADLINE_EXCEEDED if the peer is there but has no
// answer yet, UNAVAILABLE if it cannot be reached. `done` is called once, on any thread, possibly before the call returns. Thread-safe.
class PeerClient {
 public:
  using OutcomeCallback = std::function<void(absl::StatusOr<StepOutcome>)>;

  virtual ~PeerClient() = default;
  // Votes at the reducer. The answer is COMMIT or ABORT.
  virtual void Vote(int shard, const Ballot& ballot, absl::Duration timeout, OutcomeCallback done) = 0;
  // Asks what a shard knows; it promises to take no COMMIT from the reducer if it answers UNKNOWN.
  virtual void GetOutcome(int shard, const VoteKey& key, int asker, absl::Duration timeout, OutcomeCallback done) = 0;
  // OK if the shard answers and has the head open under this incarnation; DATA_LOSS if it answers and has not.
  virtual void CheckHead(int shard, int64_t incarnation, absl::Duration timeout, std::function<void(absl::Status)> done) = 0;
  // "shard K (address)".
  virtual std::string NameOf(int shard) const = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_PEER_CLIENT_H_
