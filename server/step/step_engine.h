#ifndef MYRIAD_SERVER_STEP_STEP_ENGINE_H_
#define MYRIAD_SERVER_STEP_STEP_ENGINE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/wire/status.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/step/rank_gathering.h"
#include "server/step/row_gate.h"
#include "server/step/step_work.h"
#include "server/step/vote.h"
#include "server/step/vote_exchange.h"

namespace myriad {

// One incarnation's steps on one shard, in order. A step is a row of phases (the chunks of HeadStep; or fetch, merge, apply); each gathers
// the calls of all ranks, computes on the head's strand, votes if it must, and answers. States of the step under way:
//   OPEN      calls come in. Dropped by its deadline, a higher attempt, a refused part: callers get the status and what to try next; the
//             reducer gets a NO. Between two phases nobody needs to be there; the deadline is longer then, and the same.
//   BUSY      all are there: waiting for the rows, computing, voted, replying, or settling after the replies. Never dropped; a higher
//             attempt waits.
// then the next phase is OPEN, or the step is COMMITTED (the last one's replies are kept for repeats) or ABORTED.
// The next step's first phase may come in early; it computes once this one has settled. No thread is ever blocked. Thread-safe.
class StepEngine : public std::enable_shared_from_this<StepEngine> {
 public:
  struct Options {
    std::string head;
    int64_t incarnation = 0;
    // Numbers are counted by TRAIN steps: each is one more than the last. Evaluations take any increasing number from the head's count on.
    bool evaluate = false;
    int rank_count = 1;
    int own_shard = 0;
    // From the first call of a phase to the last; three times as long from one phase to the first call of the next. Readers that keep
    // a step from its rows so long are asked to yield.
    absl::Duration step_deadline;
    int64_t next_step = 0;
    // The step is decided: COMMIT. Called before its replies leave. May be empty.
    std::function<void(int64_t step)> on_commit;
    // It was decided, counted, and then could not be applied: the rows are of no use any more. May be empty.
    std::function<void(const absl::Status& reason)> on_torn;
  };
  struct Statistics {
    int64_t open_steps = 0;
    int64_t aborted_attempts = 0;
  };

  // `timer` outlives the engine; `gate` may be nullptr where steps change no rows.
  StepEngine(Options options, std::unique_ptr<StepWork> work, std::shared_ptr<Strand> strand, Timer* timer, std::shared_ptr<RowGate> gate,
             std::shared_ptr<VoteExchange> exchange);

  // One rank's call. Answers as the errors of center_shard.proto say.
  void Call(StepCall call) ABSL_LOCKS_EXCLUDED(mu_);

  // What this shard knows of a vote's outcome. After UNKNOWN no COMMIT of it is taken from the reducer any more.
  // Errors: FAILED_PRECONDITION (no shard can have voted on it, or all know: a promise would be for nothing), RESOURCE_EXHAUSTED (more
  // promises than any run asks for).
  absl::StatusOr<StepOutcome> GetOutcome(const VoteKey& key) ABSL_LOCKS_EXCLUDED(mu_);

  // Refuses calls from now on with `reason`, drops what is OPEN, and calls `closed` once nothing is BUSY and the memory of steps is free.
  void Close(const absl::Status& reason, std::function<void()> closed) ABSL_LOCKS_EXCLUDED(mu_);

  // As Close(), but answers the callers that wait for a vote at once, and waits for nothing.
  void Shutdown(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);

  // Evaluations: numbers start anew at `step`; what was decided under the old ones is forgotten. Does nothing while one is under way.
  void StartAt(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);

  Statistics statistics() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Actions = RankGathering::Answers;
  // What a step waits for, and not for ever.
  enum class Awaits {
    kNothing,
    kFirstCall,   // Of the next phase.
    kRanks,       // The phase's other ranks.
    kStepBefore,  // Somebody to come for the step before.
    kRows,        // Readers to let go of the rows.
  };
  struct Step {
    Step(int64_t number, int attempt, int phase_count) : number(number), attempt(attempt), phase_count(phase_count) {}
    const int64_t number;
    const int attempt;
    const int phase_count;
    int phase = 0;
    bool busy = false;
    bool computing = false;  // The parts are in use.
    bool worked = false;     // Compute() was called: Abandon() is due if the step is given up.
    bool has_gate = false;
    bool over = false;  // Committed or aborted.
    Awaits awaits = Awaits::kNothing;
    Timer::Id deadline = 0;
    int64_t deadline_count = 0;  // Tells the deadline that holds from those that came too late to be cancelled.
    std::map<int, RankGathering> gatherings;
    std::vector<StepCall> parked;  // Higher attempts that came while BUSY.
    absl::Time voted_at;
    double learning_rate = 0;
  };
  using StepPtr = std::shared_ptr<Step>;

  void Dispatch(StepCall call, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Admit(StepPtr& slot, StepCall call, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Goes on with the current step's phase if it can.
  void Advance(Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Duration PatienceFor(Awaits awaits) const;
  // What the step waits for from now on, with a new deadline unless it is the same as before.
  void Await(const StepPtr& step, Awaits awaits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Compute(const StepPtr& step) ABSL_LOCKS_EXCLUDED(mu_);
  void OnVoted(const StepPtr& step, VoteResult result) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(const StepPtr& step, const std::shared_ptr<const MergedDenominators>& merged, const absl::Status& failure)
      ABSL_LOCKS_EXCLUDED(mu_);
  void OnDeadline(const StepPtr& step, int64_t deadline_count) ABSL_LOCKS_EXCLUDED(mu_);
  // Gives up an attempt: callers get `status`, the shards' NO goes out if asked for, rows are released.
  void Abort(StepPtr step, absl::Status status, bool vote_no, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(const absl::Status& status, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Remember(const VoteKey& key, StepOutcome outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CheckClosed(Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  VoteKey KeyOf(const Step& step) const;
  std::string Name(const Step& step) const;
  static void Run(Actions* actions);

  const Options options_;
  const std::unique_ptr<StepWork> work_;  // Used on the strand alone.
  const std::shared_ptr<Strand> strand_;
  Timer* const timer_;
  const std::shared_ptr<RowGate> gate_;
  const std::shared_ptr<VoteExchange> exchange_;

  mutable absl::Mutex mu_;
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);  // Not OK: closed or failed.
  std::vector<std::function<void()>> on_closed_ ABSL_GUARDED_BY(mu_);
  int64_t next_step_ ABSL_GUARDED_BY(mu_);
  StepPtr last_ ABSL_GUARDED_BY(mu_);                          // next_step_ - 1, if this incarnation committed it.
  StepPtr current_ ABSL_GUARDED_BY(mu_);                       // next_step_.
  StepPtr ahead_ ABSL_GUARDED_BY(mu_);                         // next_step_ + 1.
  int busy_ ABSL_GUARDED_BY(mu_) = 0;                          // Steps that are computing, voted or settling.
  std::map<int64_t, StepAbort> aborted_ ABSL_GUARDED_BY(mu_);  // By step: what became of the last attempt that was given up.
  std::map<VoteKey, StepOutcome> known_ ABSL_GUARDED_BY(mu_);
  std::set<VoteKey> promised_ ABSL_GUARDED_BY(mu_);  // Answered UNKNOWN.
  int64_t aborted_attempts_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_STEP_ENGINE_H_
