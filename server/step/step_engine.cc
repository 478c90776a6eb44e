#include "server/step/step_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/step/step_errors.h"

namespace myriad {
namespace {

// How many step deadlines the ranks may take from one phase to the next: a network's forward pass, or a rank's own logits, lies between.
constexpr int kDeadlinesBetweenPhases = 3;
// How far an evaluation's number may lie from the next one: a caller that counts wrongly must not use up all numbers.
constexpr int64_t kMaxEvaluationGap = int64_t{1} << 20;
constexpr size_t kMaxPromises = 4096;

}  // namespace

StepEngine::StepEngine(Options options, std::unique_ptr<StepWork> work, std::shared_ptr<Strand> strand, Timer* timer,
                       std::shared_ptr<RowGate> gate, std::shared_ptr<VoteExchange> exchange)
    : options_(std::move(options)),
      work_(std::move(work)),
      strand_(std::move(strand)),
      timer_(timer),
      gate_(std::move(gate)),
      exchange_(std::move(exchange)),
      next_step_(options_.next_step) {}

void StepEngine::Run(Actions* actions) {
  for (const auto& action : *actions) action();
}

VoteKey StepEngine::KeyOf(const Step& step) const {
  return {options_.incarnation, options_.evaluate, step.number, step.attempt, work_->ChunkOf(step.phase)};
}

std::string StepEngine::Name(const Step& step) const {
  return absl::StrCat("head '", options_.head, "' ", options_.evaluate ? "evaluation " : "step ", step.number, " attempt ", step.attempt);
}

void StepEngine::Call(StepCall call) {
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    Dispatch(std::move(call), &actions);
  }
  Run(&actions);
}

void StepEngine::Dispatch(StepCall call, Actions* actions) {
  const auto refuse = [&](absl::Status status) {
    actions->push_back([done = std::move(call.done), status = std::move(status)] { done(status); });
  };
  if (!refusal_.ok()) return refuse(refusal_);
  if (absl::Status status = CheckCall(call, options_.rank_count); !status.ok()) return refuse(std::move(status));
  const int64_t newest = current_ != nullptr ? current_->number : next_step_;
  if (call.step < newest) {
    const bool kept = last_ != nullptr && last_->number == call.step;
    const auto found = kept ? last_->gatherings.find(call.phase) : std::map<int, RankGathering>::iterator();
    if (!kept || found == last_->gatherings.end()) return refuse(OldStepError(options_.head, options_.evaluate, call.step, newest));
    found->second.Add(std::move(call), Name(*last_), actions);
    return;
  }
  if (options_.evaluate && current_ == nullptr && call.step - newest <= kMaxEvaluationGap) {
    next_step_ = call.step;
    Admit(current_, std::move(call), actions);
  } else if (call.step == newest) {
    Admit(current_, std::move(call), actions);
  } else if (call.step == newest + 1 && !options_.evaluate) {
    Admit(ahead_, std::move(call), actions);
  } else {
    refuse(EarlyStepError(options_.head, options_.evaluate, call.step, newest));
  }
}

void StepEngine::Admit(StepPtr& slot, StepCall call, Actions* actions) {
  const auto refuse = [&](absl::Status status) {
    actions->push_back([done = std::move(call.done), status = std::move(status)] { done(status); });
  };
  StepAbort over;
  if (const auto aborted = aborted_.find(call.step); aborted != aborted_.end()) over = aborted->second;
  if (slot != nullptr) over.next_attempt = slot->attempt;
  if (call.attempt < over.next_attempt) {
    return refuse(StepAbortedError(absl::StrCat("head '", options_.head, "' step ", call.step, ": attempt ", call.attempt,
                                                " is over; use attempt ", over.next_attempt),
                                   over));
  }
  if (slot != nullptr && call.attempt > slot->attempt) {
    if (slot->busy) {
      slot->parked.push_back(std::move(call));
      return;
    }
    Abort(slot, absl::AbortedError(absl::StrCat(Name(*slot), " was given up for attempt ", call.attempt)), /*vote_no=*/true, actions);
  }
  const StepPtr step = slot != nullptr ? slot : std::make_shared<Step>(call.step, call.attempt, call.phase_count);
  if (call.phase_count != step->phase_count) {
    return refuse(absl::FailedPreconditionError(
        absl::StrCat(Name(*step), ": rank ", call.rank, " says ", call.phase_count, " parts; others said ", step->phase_count)));
  }
  if (call.phase > step->phase + 1) {
    return refuse(absl::FailedPreconditionError(
        absl::StrCat(Name(*step), " is at part ", step->phase, "; part ", call.phase, " comes too early (at most one is queued ahead)")));
  }
  slot = step;
  step->gatherings.try_emplace(call.phase, options_.rank_count).first->second.Add(std::move(call), Name(*step), actions);
  if (step == current_) {
    if (ahead_ != nullptr) Await(ahead_, Awaits::kNothing);  // This one has deadlines of its own.
    Advance(actions);
  } else if (current_ == nullptr) {
    Await(step, Awaits::kStepBefore);  // Nobody has come for the step before; perhaps nobody will.
  }
}

void StepEngine::Advance(Actions* actions) {
  const StepPtr step = current_;
  if (step == nullptr || step->busy) return;
  // Calls of a later phase alone wait for this one's, with the same deadline.
  if (step->gatherings.lower_bound(step->phase) == step->gatherings.end()) return Await(step, Awaits::kFirstCall);
  RankGathering& gathering = step->gatherings.try_emplace(step->phase, options_.rank_count).first->second;
  if (!gathering.refusal().ok()) return Abort(step, gathering.refusal(), /*vote_no=*/true, actions);
  if (!gathering.complete()) return Await(step, Awaits::kRanks);
  const bool needs_rows = gate_ != nullptr && !step->has_gate;
  Await(step, needs_rows ? Awaits::kRows : Awaits::kNothing);
  step->busy = true;
  step->computing = true;
  ++busy_;
  const auto compute = [self = shared_from_this(), step] { self->strand_->Run([self, step] { self->Compute(step); }); };
  if (needs_rows) {
    step->has_gate = true;
    actions->push_back([this, self = shared_from_this(), compute] { gate_->Acquire(compute); });
  } else {
    actions->push_back(compute);
  }
}

absl::Duration StepEngine::PatienceFor(Awaits awaits) const {
  return (awaits == Awaits::kFirstCall ? kDeadlinesBetweenPhases : 1) * options_.step_deadline;
}

void StepEngine::Await(const StepPtr& step, Awaits awaits) {
  if (step->awaits == awaits) return;
  timer_->Cancel(std::exchange(step->deadline, 0));
  step->awaits = awaits;
  ++step->deadline_count;
  if (awaits == Awaits::kNothing) return;
  step->deadline = timer_->RunAt(timer_->Now() + PatienceFor(awaits),
                                 [weak_engine = weak_from_this(), weak_step = std::weak_ptr<Step>(step), count = step->deadline_count] {
                                   const std::shared_ptr<StepEngine> self = weak_engine.lock();
                                   const StepPtr step = weak_step.lock();
                                   if (self != nullptr && step != nullptr) self->OnDeadline(step, count);
                                 });
}

void StepEngine::Compute(const StepPtr& step) {
  StepWork::Phase phase;
  Ballot ballot;
  bool votes;
  {
    absl::MutexLock lock(&mu_);
    Await(step, Awaits::kNothing);
    const RankGathering& gathering = step->gatherings.at(step->phase);
    if (step->phase == 0) step->learning_rate = gathering.learning_rate();
    phase = {step->number, step->phase, step->phase_count, step->learning_rate, gathering.parts()};
    ballot.key = KeyOf(*step);
    ballot.shard = options_.own_shard;
    votes = work_->Votes(step->phase, step->phase_count);
    Digester digester;
    digester.Add(options_.head).Add(options_.incarnation).Add(int64_t{options_.evaluate}).Add(step->number).Add(int64_t{ballot.key.chunk});
    step->gatherings.at(work_->AgreedPhase(step->phase)).AddTo(&digester);
    ballot.digest = digester.Finish();
    step->worked = true;
  }
  absl::StatusOr<StepWork::Share> share = CatchAll([&] { return work_->Compute(phase); });
  Actions actions;
  bool goes_on;
  {
    absl::MutexLock lock(&mu_);
    step->computing = false;
    goes_on = share.ok() && refusal_.ok();
    step->voted_at = timer_->Now();
    if (!goes_on) Abort(step, share.ok() ? refusal_ : share.status(), /*vote_no=*/true, &actions);
  }
  if (!goes_on) return Run(&actions);
  if (!votes) return Finish(step, nullptr, absl::OkStatus());
  ballot.sample_count = share->sample_count;
  ballot.denominators = std::move(share->denominators);
  exchange_->Submit(std::move(ballot), [self = shared_from_this(), step](VoteResult result) { self->OnVoted(step, std::move(result)); });
}

void StepEngine::OnVoted(const StepPtr& step, VoteResult result) {
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    const VoteKey key = KeyOf(*step);
    if (result.outcome.decision == StepOutcome::Decision::kCommit && result.reducer_lost.ok() && promised_.count(key) > 0) {
      // A shard that was told UNKNOWN may have concluded that nobody took the step. If some shard did before it was asked, that one tells.
      actions.push_back([this, self = shared_from_this(), step, key] {
        exchange_->Inquire(key, absl::UnavailableError("it answered after this shard had told another that it knows no outcome"),
                           [self, step](VoteResult answer) { self->OnVoted(step, std::move(answer)); });
      });
    } else if (result.outcome.decision == StepOutcome::Decision::kCommit) {
      Remember(key, result.outcome);
      actions.push_back([self = shared_from_this(), step, result = std::move(result)] {
        self->strand_->Run([self, step, result] { self->Finish(step, result.outcome.merged, result.reducer_lost); });
      });
    } else if (result.outcome.decision == StepOutcome::Decision::kAbort && result.reducer_lost.ok()) {
      Abort(step, result.outcome.status, /*vote_no=*/false, &actions);
    } else {
      Fail(result.reducer_lost, &actions);
      if (!step->over) Abort(step, result.reducer_lost, /*vote_no=*/false, &actions);
    }
  }
  Run(&actions);
}

void StepEngine::Finish(const StepPtr& step, const std::shared_ptr<const MergedDenominators>& merged, const absl::Status& failure) {
  const double vote_seconds = absl::ToDoubleSeconds(timer_->Now() - step->voted_at);
  absl::StatusOr<std::vector<RankReply>> replies = CatchAll([&] { return work_->Reply(merged, vote_seconds); });
  const bool last = step->phase + 1 == step->phase_count;
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    RankGathering& gathering = step->gatherings.at(step->phase);
    if (!failure.ok()) Fail(failure, &actions);
    if (replies.ok() && failure.ok()) {
      gathering.Answer(*std::move(replies), &actions);
    } else {
      gathering.Refuse(failure.ok() ? replies.status() : failure, &actions);
    }
    if (last) {
      step->over = true;
      for (auto& [phase, kept] : step->gatherings) {
        if (!work_->Votes(phase, step->phase_count)) kept.DropReplies();
      }
      last_ = step;
      next_step_ = step->number + 1;
      if (current_ == step) current_ = std::exchange(ahead_, nullptr);
      aborted_.erase(aborted_.begin(), aborted_.lower_bound(next_step_));
      const VoteKey oldest = {options_.incarnation, options_.evaluate, step->number, 0, 0};
      known_.erase(known_.begin(), known_.lower_bound(oldest));
      promised_.erase(promised_.begin(), promised_.lower_bound(oldest));
      if (options_.on_commit)
        actions.insert(actions.begin(), [this, self = shared_from_this(), step] { options_.on_commit(step->number); });
      for (StepCall& call : std::exchange(step->parked, {})) Dispatch(std::move(call), &actions);
      Advance(&actions);
    } else {
      ++step->phase;
    }
  }
  Run(&actions);
  actions.clear();

  const absl::Status settled = CatchAll([&] { return work_->Settle(last); });
  {
    absl::MutexLock lock(&mu_);
    --busy_;
    step->busy = false;
    if (!settled.ok()) {
      const absl::Status torn = absl::DataLossError(absl::StrCat(Name(*step), " could not be applied: ", settled.message()));
      Fail(torn, &actions);
      if (last && options_.on_torn) actions.push_back([this, self = shared_from_this(), torn] { options_.on_torn(torn); });
    }
    if (last) {
      if (std::exchange(step->has_gate, false)) actions.push_back([this, self = shared_from_this()] { gate_->Release(); });
    } else if (!refusal_.ok()) {
      Abort(step, refusal_, /*vote_no=*/true, &actions);
    } else {
      for (StepCall& call : std::exchange(step->parked, {})) Dispatch(std::move(call), &actions);
      Advance(&actions);
    }
    CheckClosed(&actions);
  }
  Run(&actions);
}

void StepEngine::OnDeadline(const StepPtr& step, int64_t deadline_count) {
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    if (step->deadline_count != deadline_count) return;
    step->deadline = 0;
    switch (step->awaits) {
      case Awaits::kNothing: break;
      case Awaits::kRows: actions.push_back([this, self = shared_from_this()] { gate_->AskReadersToYield(); }); break;
      case Awaits::kStepBefore:
        Abort(step, absl::AbortedError(absl::StrCat(Name(*step), " waited for step ", next_step_, ", for which no rank came")),
              /*vote_no=*/true, &actions);
        break;
      case Awaits::kFirstCall:
      case Awaits::kRanks: {
        const std::vector<int32_t> missing = step->gatherings.try_emplace(step->phase, options_.rank_count).first->second.MissingRanks();
        const std::string part = step->phase == 0 ? "" : absl::StrCat(" part ", step->phase);
        const std::string message = MissingRanksMessage(Name(*step) + part, missing, options_.rank_count, PatienceFor(step->awaits));
        Abort(step, StepAbortedError(message, {step->attempt + 1, missing}), /*vote_no=*/true, &actions);
        break;
      }
    }
  }
  Run(&actions);
}

void StepEngine::Abort(StepPtr step, absl::Status status, bool vote_no, Actions* actions) {
  if (step->over) return;
  step->over = true;
  Await(step, Awaits::kNothing);
  ++aborted_attempts_;
  StepAbort detail;
  if (absl::IsAborted(status) && !GetStepAbort(status, &detail)) {
    status = StepAbortedError(std::string(status.message()), {step->attempt + 1, {}});
  }
  if (StepAbort& aborted = aborted_[step->number]; aborted.next_attempt <= step->attempt) {
    aborted = {step->attempt + 1, detail.missing_ranks};
  }
  Remember(KeyOf(*step), StepOutcome::Abort(status));
  if (vote_no) {
    Ballot ballot;
    ballot.key = KeyOf(*step);
    ballot.shard = options_.own_shard;
    ballot.status = status;
    actions->push_back([exchange = exchange_, ballot] { exchange->Submit(ballot, [](const VoteResult&) {}); });
  }
  for (auto& [phase, gathering] : step->gatherings) gathering.Refuse(status, actions);
  if (ahead_ == step) ahead_ = nullptr;
  if (current_ == step) {
    current_ = nullptr;
    if (ahead_ != nullptr) Await(ahead_, Awaits::kStepBefore);
  }
  if (std::exchange(step->busy, false)) --busy_;
  if (step->worked || step->has_gate) {
    const bool has_gate = std::exchange(step->has_gate, false);
    actions->push_back([self = shared_from_this(), has_gate] {
      self->strand_->Run([self, has_gate] {
        // A failure to let go of buffers changes nothing for the step, which is given up already.
        CatchAll([&] {
          self->work_->Abandon();
          return absl::OkStatus();
        }).IgnoreError();
        if (has_gate) self->gate_->Release();
      });
    });
  }
  for (StepCall& call : std::exchange(step->parked, {})) Dispatch(std::move(call), actions);
  CheckClosed(actions);
}

void StepEngine::Fail(const absl::Status& status, Actions* actions) {
  if (refusal_.ok()) refusal_ = status;
  for (const StepPtr& step : {current_, ahead_}) {
    if (step == nullptr || step->computing) continue;
    if (!step->busy) {
      Abort(step, status, /*vote_no=*/true, actions);
      continue;
    }
    // Its outcome is still to come and is still obeyed; only the callers stop waiting.
    for (auto& [phase, gathering] : step->gatherings) gathering.Refuse(status, actions);
    for (StepCall& call : std::exchange(step->parked, {})) Dispatch(std::move(call), actions);
  }
}

void StepEngine::Remember(const VoteKey& key, StepOutcome outcome) { known_.emplace(key, std::move(outcome)); }

absl::StatusOr<StepOutcome> StepEngine::GetOutcome(const VoteKey& key) {
  absl::MutexLock lock(&mu_);
  const auto found = known_.find(key);
  if (found != known_.end()) return found->second;
  // A shard that has voted on a step has heard COMMIT of the one before; this one perhaps not yet. Evaluations move nothing and depend on
  // nothing, so their numbers may be any.
  const int64_t newest = current_ != nullptr ? current_->number : next_step_;
  if (!options_.evaluate && (key.step < newest - 1 || key.step > newest + 1)) {
    return absl::FailedPreconditionError(
        absl::StrCat("head '", options_.head, "' is at step ", newest, " here; nobody can wait for the outcome of ", key.ToString()));
  }
  if (promised_.size() >= kMaxPromises) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", options_.head, "': ", promised_.size(), " outcomes were asked for already"));
  }
  promised_.insert(key);
  return StepOutcome();
}

void StepEngine::CheckClosed(Actions* actions) {
  if (busy_ > 0 || on_closed_.empty()) return;
  // Behind whatever the strand still has to let go of.
  for (auto& closed : std::exchange(on_closed_, {})) {
    actions->push_back([self = shared_from_this(), closed = std::move(closed)] {
      self->strand_->Run([self, closed] {
        self->work_->Release();
        closed();
      });
    });
  }
}

void StepEngine::Close(const absl::Status& reason, std::function<void()> closed) {
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    refusal_ = reason;
    on_closed_.push_back(std::move(closed));
    for (const StepPtr& step : {current_, ahead_}) {
      if (step != nullptr && !step->busy) Abort(step, reason, /*vote_no=*/true, &actions);
    }
    CheckClosed(&actions);
  }
  Run(&actions);
}

void StepEngine::Shutdown(const absl::Status& reason) {
  Actions actions;
  {
    absl::MutexLock lock(&mu_);
    refusal_ = reason;
    Fail(reason, &actions);
  }
  Run(&actions);
}

void StepEngine::StartAt(int64_t step) {
  absl::MutexLock lock(&mu_);
  if (current_ != nullptr) return;
  next_step_ = step;
  last_ = nullptr;
  aborted_.clear();
  known_.clear();
  promised_.clear();
}

StepEngine::Statistics StepEngine::statistics() const {
  absl::MutexLock lock(&mu_);
  return {(current_ != nullptr) + int64_t{ahead_ != nullptr}, aborted_attempts_};
}

}  // namespace myriad
