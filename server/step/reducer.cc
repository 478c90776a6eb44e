#include "server/step/reducer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/status.h"

namespace myriad {

void Reducer::Decide(Poll& poll, StepOutcome outcome, Answers* answers) {
  poll.outcome = std::move(outcome);
  timer_->Cancel(std::exchange(poll.probe, 0));
  for (Done& done : poll.waiting) answers->push_back([done = std::move(done), outcome = *poll.outcome] { done(outcome); });
  poll.waiting.clear();
  poll.ballots.clear();
}

void Reducer::Count(Poll& poll, Ballot ballot, Answers* answers) {
  const int shard = ballot.shard;
  if (!ballot.status.ok()) {
    Decide(poll, StepOutcome::Abort(Annotate(ballot.status, peers_->NameOf(shard))), answers);
    return;
  }
  poll.ballots.resize(options_.shard_count);
  for (const std::optional<Ballot>& other : poll.ballots) {
    if (!other || (other->digest == ballot.digest && other->sample_count == ballot.sample_count)) continue;
    Decide(poll,
           StepOutcome::Abort(absl::FailedPreconditionError(absl::StrCat(peers_->NameOf(other->shard), " and ", peers_->NameOf(shard),
                                                                         " received different data for ", ballot.key.ToString(), " (",
                                                                         other->sample_count, " and ", ballot.sample_count, " samples)"))),
           answers);
    return;
  }
  if (poll.ballots[shard]) return;
  const VoteKey key = ballot.key;
  const int64_t sample_count = ballot.sample_count;
  poll.ballots[shard] = std::move(ballot);
  if (++poll.count < options_.shard_count) {
    if (poll.count == 1) ArmProbe(key, poll);
    return;
  }
  std::vector<Denominators> shares;
  for (std::optional<Ballot>& other : poll.ballots) shares.push_back(std::move(other->denominators));
  absl::StatusOr<MergedDenominators> merged = MergeShares(shares, sample_count);
  if (merged.ok()) {
    Decide(poll, StepOutcome::Commit(std::make_shared<const MergedDenominators>(*std::move(merged))), answers);
  } else {
    Decide(poll, StepOutcome::Abort(Annotate(merged.status(), absl::StrCat("denominators of ", key.ToString()))), answers);
  }
}

void Reducer::Vote(Ballot ballot, Done done) {
  Answers answers;
  {
    absl::MutexLock lock(&mu_);
    const VoteKey key = ballot.key;
    const auto known = polls_.find(key);
    if (known == polls_.end() || !known->second.outcome) {
      if (!closed_.ok()) {
        answers.push_back([done, status = closed_] { done(StepOutcome::Abort(status)); });
      } else if (key.step < first_step_) {
        answers.push_back([done, key] {
          done(StepOutcome::Abort(absl::FailedPreconditionError(absl::StrCat(key.ToString(), " is over; a vote for it comes too late"))));
        });
      } else {
        // Attempts of one step: the highest that anyone votes for is the only one that can still be decided otherwise than by ABORT.
        int highest = key.attempt;
        for (auto& [other, poll] : polls_) {
          if (other.evaluate != key.evaluate || other.step != key.step) continue;
          highest = std::max(highest, other.attempt);
          if (other.attempt >= key.attempt || poll.outcome) continue;
          Decide(poll,
                 StepOutcome::Abort(absl::AbortedError(
                     absl::StrCat(other.ToString(), ": ", peers_->NameOf(ballot.shard), " has gone on to attempt ", key.attempt))),
                 &answers);
        }
        Poll& poll = polls_[key];
        poll.waiting.push_back(std::move(done));
        if (highest > key.attempt) {
          Decide(poll,
                 StepOutcome::Abort(absl::AbortedError(absl::StrCat(key.ToString(), ": the shards have gone on to attempt ", highest))),
                 &answers);
        } else {
          Count(poll, std::move(ballot), &answers);
        }
      }
    } else {
      answers.push_back([done = std::move(done), outcome = *known->second.outcome] { done(outcome); });
    }
  }
  for (const auto& answer : answers) answer();
}

StepOutcome Reducer::Settle(const VoteKey& key) {
  Answers answers;
  StepOutcome outcome;
  {
    absl::MutexLock lock(&mu_);
    if (key.step < first_step_) {
      return StepOutcome::Abort(absl::FailedPreconditionError(absl::StrCat(key.ToString(), " is over; what became of it is forgotten")));
    }
    Poll& poll = polls_[key];
    if (!poll.outcome) {
      Decide(poll, StepOutcome::Abort(absl::AbortedError(absl::StrCat(key.ToString(), ": a shard gave up waiting for its outcome"))),
             &answers);
    }
    outcome = *poll.outcome;
  }
  for (const auto& answer : answers) answer();
  return outcome;
}

void Reducer::Close(const absl::Status& reason) {
  Answers answers;
  {
    absl::MutexLock lock(&mu_);
    if (closed_.ok()) closed_ = reason;
    for (auto& [key, poll] : polls_) {
      if (!poll.outcome) Decide(poll, StepOutcome::Abort(reason), &answers);
    }
  }
  for (const auto& answer : answers) answer();
}

void Reducer::ForgetBefore(int64_t step) {
  absl::MutexLock lock(&mu_);
  first_step_ = std::max(first_step_, step);
  for (auto it = polls_.begin(); it != polls_.end();) {
    // A poll that somebody still waits for stays until its outcome.
    it = it->first.step < step && it->second.outcome ? polls_.erase(it) : std::next(it);
  }
}

void Reducer::ArmProbe(const VoteKey& key, Poll& poll) {
  poll.probe = timer_->RunAt(timer_->Now() + options_.shard_wait / 4, [self = weak_from_this(), key] {
    if (const std::shared_ptr<Reducer> reducer = self.lock()) reducer->Probe(key);
  });
}

void Reducer::Probe(const VoteKey& key) {
  std::vector<int> missing;
  {
    absl::MutexLock lock(&mu_);
    const auto found = polls_.find(key);
    if (found == polls_.end() || found->second.outcome) return;
    for (int shard = 0; shard < options_.shard_count; ++shard) {
      if (!found->second.ballots[shard] && shard != options_.own_shard) missing.push_back(shard);
    }
    ArmProbe(key, found->second);
  }
  for (int shard : missing) {
    peers_->CheckHead(shard, key.incarnation, options_.shard_wait, [self = weak_from_this(), key, shard](const absl::Status& status) {
      if (const std::shared_ptr<Reducer> reducer = self.lock()) reducer->OnProbed(key, shard, status);
    });
  }
}

void Reducer::OnProbed(const VoteKey& key, int shard, const absl::Status& status) {
  Answers answers;
  {
    absl::MutexLock lock(&mu_);
    const auto found = polls_.find(key);
    if (found == polls_.end() || found->second.outcome) return;
    Poll& poll = found->second;
    if (status.ok()) {
      poll.unreachable_since.erase(shard);
      return;
    }
    const absl::Time now = timer_->Now();
    const absl::Time since = poll.unreachable_since.emplace(shard, now).first->second;
    if (status.code() != absl::StatusCode::kDataLoss && now - since < options_.shard_wait) return;
    Decide(poll,
           StepOutcome::Abort(
               absl::DataLossError(absl::StrCat(peers_->NameOf(shard), " did not vote on ", key.ToString(), ": ", status.message()))),
           &answers);
  }
  for (const auto& answer : answers) answer();
}

}  // namespace myriad
