#ifndef MYRIAD_SERVER_TRAINING_SESSION_H_
#define MYRIAD_SERVER_TRAINING_SESSION_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "head/head_spec.h"
#include "server/coverage.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/step/peer_client.h"
#include "server/step/reducer.h"
#include "server/step/row_gate.h"
#include "server/step/step_engine.h"
#include "server/step/vote_exchange.h"
#include "server/store/row_store.h"

namespace myriad {

// What a run opens a head with.
struct SessionOptions {
  TrainingSpec training;
  int64_t incarnation = 0;
  int64_t class_count = 0;  // N as the run takes it; 0: as it is.
  int shard_index = 0;
  std::vector<std::string> shard_addresses;  // K.
  int rank_count = 1;
  int64_t labels_per_step = 0;  // At most, over all ranks; 0: not known.
  absl::Duration step_deadline = absl::Seconds(20);
  absl::Duration shard_wait = absl::Seconds(10);
  std::optional<int64_t> expected_step;  // Steps that the head must have committed; any number when absent.
  bool accept_mixed_steps = false;       // Train on from rows that an unclean stop left between two steps.
};

// OK if a repeated OpenHead asks for what is open, else FAILED_PRECONDITION naming the field and both values.
absl::Status CheckSame(const SessionOptions& open, const SessionOptions& asked);

// One incarnation of a head on this shard: the steps of one run, from OpenHead until the next. Thread-safe.
class TrainingSession {
 public:
  // What of the head and the server a session works with. `timer` outlives it.
  struct Parts {
    HeadSpec head;
    int64_t committed_steps = 0;
    std::shared_ptr<RowStore> store;
    std::shared_ptr<Strand> strand;
    std::shared_ptr<RowGate> gate;
    std::shared_ptr<PositiveWatch> positives;
    Timer* timer = nullptr;
    std::shared_ptr<PeerClient> peers;
    std::function<void(int64_t step)> on_commit;
    std::function<void(const absl::Status& reason)> on_torn;
  };
  TrainingSession(SessionOptions options, const Parts& parts);

  const SessionOptions& options() const { return options_; }

  // Steps that move W, and evaluations.
  StepEngine& train() { return *train_; }
  StepEngine& evaluate() { return *evaluate_; }
  Reducer& reducer() { return *reducer_; }
  bool IsReducerOf(int64_t step) const { return exchange_->ReducerOf(step) == options_.shard_index; }
  // A peer's question: what this shard knows of a vote. Errors: as StepEngine::GetOutcome; FAILED_PRECONDITION where this shard is the
  // reducer, who is asked by voting.
  absl::StatusOr<StepOutcome> GetOutcome(const VoteKey& key);

  // Ends the run on this shard: calls get `reason`. `closed` is called once no step is under way; votes and questions of peers are
  // answered even then.
  void Close(const absl::Status& reason, std::function<void()> closed);
  // The server stops: callers are answered now.
  void Shutdown(const absl::Status& reason);

 private:
  const SessionOptions options_;
  std::shared_ptr<Reducer> reducer_;
  std::shared_ptr<VoteExchange> exchange_;
  std::shared_ptr<StepEngine> train_;
  std::shared_ptr<StepEngine> evaluate_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_TRAINING_SESSION_H_
