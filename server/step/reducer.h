#ifndef MYRIAD_SERVER_STEP_REDUCER_H_
#define MYRIAD_SERVER_STEP_REDUCER_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/runtime/timer.h"
#include "server/step/peer_client.h"
#include "server/step/vote.h"

namespace myriad {

// The shard that decides a step: shard step mod K. Collects the K votes of a chunk, merges equal digests in the order of shards and gives
// all the same answer; a NO, other digests, or a vote for a higher attempt of the step decide ABORT at once. An outcome never changes and
// is kept until the run has gone on (ForgetBefore).
//
// While votes are missing, their shards are probed: one that cannot be reached for `shard_wait`, or has lost the head, decides ABORT with
// DATA_LOSS naming it. A shard that answers is waited for: its own deadline for the ranks ends the wait. Thread-safe.
class Reducer : public std::enable_shared_from_this<Reducer> {
 public:
  using Done = std::function<void(StepOutcome)>;
  struct Options {
    int shard_count = 1;
    int own_shard = 0;
    absl::Duration shard_wait;
  };

  // `timer` outlives the object.
  Reducer(const Options& options, Timer* timer, std::shared_ptr<PeerClient> peers)
      : options_(options), timer_(timer), peers_(std::move(peers)) {}

  // A shard's vote; `done` gets COMMIT or ABORT once it is decided, on any thread. A repeated vote gets the same answer; the same shard
  // with another digest decides ABORT.
  void Vote(Ballot ballot, Done done) ABSL_LOCKS_EXCLUDED(mu_);

  // What is decided about `key`; ABORT is decided if nothing is, so that the answer stays true.
  StepOutcome Settle(const VoteKey& key) ABSL_LOCKS_EXCLUDED(mu_);

  // Decides ABORT wherever votes wait, now and for every later vote.
  void Close(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);

  // Forgets outcomes of steps below `step` (evaluations too): the caller has seen COMMIT of step `step`, so all have those.
  void ForgetBefore(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Poll {
    std::vector<std::optional<Ballot>> ballots;
    int count = 0;
    std::vector<Done> waiting;
    std::optional<StepOutcome> outcome;
    std::map<int, absl::Time> unreachable_since;
    Timer::Id probe = 0;
  };
  using Answers = std::vector<std::function<void()>>;

  void Count(Poll& poll, Ballot ballot, Answers* answers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Decide(Poll& poll, StepOutcome outcome, Answers* answers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmProbe(const VoteKey& key, Poll& poll) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Probe(const VoteKey& key) ABSL_LOCKS_EXCLUDED(mu_);
  void OnProbed(const VoteKey& key, int shard, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  Timer* const timer_;
  const std::shared_ptr<PeerClient> peers_;

  absl::Mutex mu_;
  absl::Status closed_ ABSL_GUARDED_BY(mu_);
  int64_t first_step_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<VoteKey, Poll> polls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_REDUCER_H_
