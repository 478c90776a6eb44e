#ifndef MYRIAD_SERVER_STEP_VOTE_EXCHANGE_H_
#define MYRIAD_SERVER_STEP_VOTE_EXCHANGE_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/runtime/timer.h"
#include "server/step/peer_client.h"
#include "server/step/reducer.h"
#include "server/step/vote.h"

namespace myriad {

// What came of a vote.
struct VoteResult {
  // COMMIT or ABORT as the reducer decided; with `reducer_lost`: COMMIT if a peer knew of it, else UNKNOWN (no living shard took the step).
  StepOutcome outcome;
  // Not OK when the reducer could not be reached for `shard_wait`, or had lost the head: DATA_LOSS naming it. The run must end.
  absl::Status reducer_lost;
};

// Brings a shard's vote to the reducer (shard step mod K, perhaps this one) and its outcome back: retries while the reducer cannot be
// reached, and asks every other peer once it is gone. Blocks no thread. Thread-safe.
class VoteExchange : public std::enable_shared_from_this<VoteExchange> {
 public:
  struct Options {
    int shard_count = 1;
    int own_shard = 0;
    absl::Duration shard_wait;
  };
  // `own_reducer` decides where this shard is the reducer. `timer` outlives the calls.
  VoteExchange(const Options& options, std::shared_ptr<Reducer> own_reducer, Timer* timer, std::shared_ptr<PeerClient> peers)
      : options_(options), own_reducer_(std::move(own_reducer)), timer_(timer), peers_(std::move(peers)) {}

  int ReducerOf(int64_t step) const { return static_cast<int>(step % options_.shard_count); }

  // `done` is called once, on any thread, possibly before this returns. A NO is brought to the reducer as well as can be; its result
  // means nothing.
  void Submit(Ballot ballot, std::function<void(VoteResult)> done);

  // Asks every peer but the reducer, as if the reducer were lost; `why` says why it is not believed.
  void Inquire(const VoteKey& key, const absl::Status& why, std::function<void(VoteResult)> done);

 private:
  struct Submission;
  struct Inquiry;
  void SendVote(const std::shared_ptr<Submission>& submission);
  void OnVoteError(const std::shared_ptr<Submission>& submission, const absl::Status& status);
  void AskPeers(const std::shared_ptr<Submission>& submission, const absl::Status& why);
  void AskPeer(const std::shared_ptr<Inquiry>& inquiry, int shard, absl::Time give_up);

  const Options options_;
  const std::shared_ptr<Reducer> own_reducer_;
  Timer* const timer_;
  const std::shared_ptr<PeerClient> peers_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_VOTE_EXCHANGE_H_
