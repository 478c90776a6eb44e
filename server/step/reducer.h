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
// is kept until the run has gone on: until all shards have voted for a later chunk, attempt or number, or ForgetBefore().
//
// While votes are missing, their shards are probed: one that cannot be reached for `shard_wait`, or has lost the head, decides ABORT with
// DATA_LOSS naming it. A shard that answers is waited for, but no longer than `vote_wait`: no rank may have reached it, and none may come.
//
// Votes on steps far from those that the run can be at, and more than any run can have, are answered ABORT and not kept. Thread-safe.
class Reducer : public std::enable_shared_from_this<Reducer> {
 public:
  using Done = std::function<void(StepOutcome)>;
  struct Options {
    int shard_count = 1;
    int own_shard = 0;
    absl::Duration shard_wait;
    absl::Duration vote_wait;  // From the first vote to the last.
    int64_t next_step = 0;     // The first TRAIN step of the run.
  };

  // `timer` outlives the object.
  Reducer(const Options& options, Timer* timer, std::shared_ptr<PeerClient> peers)
      : options_(options), timer_(timer), peers_(std::move(peers)), first_step_(options.next_step) {}

  // A shard's vote; `done` gets COMMIT or ABORT once it is decided, on any thread. A repeated vote gets the same answer, and ends the wait
  // of the one before with UNKNOWN. A vote with another digest than the others decides ABORT, or gets it if the others are decided.
  void Vote(Ballot ballot, Done done) ABSL_LOCKS_EXCLUDED(mu_);

  // Decides ABORT wherever votes wait, now and for every later vote.
  void Close(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);

  // Forgets the outcomes of steps below `step`, and of all evaluations, whose numbers are used again: the caller has seen COMMIT of step
  // `step`, so all shards have those.
  void ForgetBefore(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Poll {
    std::vector<std::optional<Ballot>> ballots;
    int count = 0;
    absl::Time opened;
    std::map<int, Done> waiting;  // By shard.
    std::optional<StepOutcome> outcome;
    Digest digest;  // With COMMIT: of the votes.
    std::map<int, absl::Time> unreachable_since;
    Timer::Id probe = 0;
  };
  using Answers = std::vector<std::function<void()>>;

  // Why a vote is not to be kept, OK if it is.
  absl::Status CheckKey(const VoteKey& key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Count(Poll& poll, Ballot ballot, Answers* answers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Forgets decided polls: all shards have voted COMMIT on `key`, so they know what became of what lies before it.
  void ForgetBelow(const VoteKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Decide(Poll& poll, StepOutcome outcome, Answers* answers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ArmProbe(const VoteKey& key, Poll& poll) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Probe(const VoteKey& key) ABSL_LOCKS_EXCLUDED(mu_);
  void OnProbed(const VoteKey& key, int shard, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  Timer* const timer_;
  const std::shared_ptr<PeerClient> peers_;

  absl::Mutex mu_;
  absl::Status closed_ ABSL_GUARDED_BY(mu_);
  int64_t first_step_ ABSL_GUARDED_BY(mu_);
  std::map<VoteKey, Poll> polls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_REDUCER_H_
