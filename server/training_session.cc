#include "server/training_session.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/step/shard_step_work.h"
#include "server/step/worker_step_work.h"

namespace myriad {

absl::Status CheckSame(const SessionOptions& open, const SessionOptions& asked) {
  if (absl::Status status = CheckSame(open.training, "the open head", asked.training, "the call"); !status.ok()) return status;
  const auto differ = [](const char* field, const auto& a, const auto& b) {
    return absl::FailedPreconditionError(absl::StrCat(field, " is ", a, " where the head is open, ", b, " in the call"));
  };
  if (open.class_count != asked.class_count) return differ("class_count", open.class_count, asked.class_count);
  if (open.shard_index != asked.shard_index) return differ("shard_index", open.shard_index, asked.shard_index);
  if (open.rank_count != asked.rank_count) return differ("rank_count", open.rank_count, asked.rank_count);
  if (open.labels_per_step != asked.labels_per_step) return differ("labels_per_step", open.labels_per_step, asked.labels_per_step);
  if (open.shard_addresses != asked.shard_addresses) {
    return differ("shard_addresses", absl::StrJoin(open.shard_addresses, ","), absl::StrJoin(asked.shard_addresses, ","));
  }
  if (open.step_deadline != asked.step_deadline) {
    return differ("step_deadline_ms", absl::FormatDuration(open.step_deadline), absl::FormatDuration(asked.step_deadline));
  }
  if (open.shard_wait != asked.shard_wait) {
    return differ("shard_wait_ms", absl::FormatDuration(open.shard_wait), absl::FormatDuration(asked.shard_wait));
  }
  return absl::OkStatus();
}

TrainingSession::TrainingSession(SessionOptions options, const Parts& parts) : options_(std::move(options)) {
  const int shard_count = options_.shard_addresses.size();
  Reducer::Options reducer;
  reducer.shard_count = shard_count;
  reducer.own_shard = options_.shard_index;
  reducer.shard_wait = options_.shard_wait;
  // Longer than the others' own deadlines for the ranks, shorter than callers wait.
  reducer.vote_wait = options_.step_deadline + options_.shard_wait;
  reducer.next_step = parts.committed_steps;
  reducer_ = std::make_shared<Reducer>(reducer, parts.timer, parts.peers);
  exchange_ = std::make_shared<VoteExchange>(VoteExchange::Options{shard_count, options_.shard_index, options_.shard_wait}, reducer_,
                                             parts.timer, parts.peers);
  const StepWorkOptions work{parts.head, options_.training, options_.shard_index, shard_count, parts.positives};

  StepEngine::Options engine;
  engine.head = parts.head.name;
  engine.incarnation = options_.incarnation;
  engine.evaluate = true;
  engine.rank_count = options_.rank_count;
  engine.own_shard = options_.shard_index;
  engine.step_deadline = options_.step_deadline;
  engine.next_step = parts.committed_steps;
  evaluate_ = std::make_shared<StepEngine>(engine, std::make_unique<ShardStepWork>(work, /*evaluate=*/true, parts.store, parts.timer),
                                           parts.strand, parts.timer, nullptr, exchange_);

  engine.evaluate = false;
  engine.on_torn = parts.on_torn;
  engine.on_commit = [reducer = reducer_, evaluate = evaluate_, on_commit = parts.on_commit](int64_t step) {
    // All shards have voted for `step`, so they have the outcomes of those before it.
    reducer->ForgetBefore(step);
    evaluate->StartAt(step + 1);
    on_commit(step);
  };
  std::unique_ptr<StepWork> train_work;
  if (options_.training.placement == Placement::kShard) {
    train_work = std::make_unique<ShardStepWork>(work, /*evaluate=*/false, parts.store, parts.timer);
  } else {
    train_work = std::make_unique<WorkerStepWork>(work, parts.store);
  }
  train_ = std::make_shared<StepEngine>(engine, std::move(train_work), parts.strand, parts.timer, parts.gate, exchange_);
}

absl::StatusOr<StepOutcome> TrainingSession::GetOutcome(const VoteKey& key) {
  if (IsReducerOf(key.step)) {
    return absl::FailedPreconditionError(
        absl::StrCat("shard ", options_.shard_index, " is the reducer of ", key.ToString(), ": it answers votes"));
  }
  return (key.evaluate ? evaluate_ : train_)->GetOutcome(key);
}

void TrainingSession::Close(const absl::Status& reason, std::function<void()> closed) {
  // First what others (and this shard's own steps) wait for; then the evaluations, then the steps.
  reducer_->Close(reason);
  evaluate_->Close(reason, [train = train_, reason, closed = std::move(closed)] { train->Close(reason, closed); });
}

void TrainingSession::Shutdown(const absl::Status& reason) {
  evaluate_->Shutdown(reason);
  train_->Shutdown(reason);
  reducer_->Close(reason);
}

}  // namespace myriad
