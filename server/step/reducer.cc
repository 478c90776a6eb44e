#include "server/step/reducer.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

// A shard may vote on the step after the one whose COMMIT this shard has not heard of, and that may follow the last one known here.
constexpr int64_t kStepsAhead = 2;
constexpr size_t kMaxPolls = 4096;

}  // namespace

void Reducer::Decide(Poll& poll, StepOutcome outcome, Answers* answers) {
  poll.outcome = std::move(outcome);
  timer_->Cancel(std::exchange(poll.probe, 0));
  for (auto& [shard, done] : poll.waiting) answers->push_back([done = std::move(done), outcome = *poll.outcome] { done(outcome); });
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
    poll.digest = poll.ballots[shard]->digest;
    ForgetBelow(key);
    Decide(poll, StepOutcome::Commit(std::make_shared<const MergedDenominators>(*std::move(merged))), answers);
  } else {
    Decide(poll, StepOutcome::Abort(Annotate(merged.status(), absl::StrCat("denominators of ", key.ToString()))), answers);
  }
}

void Reducer::ForgetBelow(const VoteKey& key) {
  for (auto it = polls_.begin(); it != polls_.end() && it->first < key;) {
    it = it->first.evaluate == key.evaluate && it->second.outcome ? polls_.erase(it) : std::next(it);
  }
}

absl::Status Reducer::CheckKey(const VoteKey& key) const {
  if (!closed_.ok()) return closed_;
  if (key.step < first_step_) {
    return absl::FailedPreconditionError(absl::StrCat(key.ToString(), " is over; a vote for it comes too late"));
  }
  if (!key.evaluate && key.step > first_step_ + kStepsAhead) {
    return absl::FailedPreconditionError(
        absl::StrCat(key.ToString(), " is far from step ", first_step_, ", where the run is; a vote for it comes too early"));
  }
  if (polls_.size() >= kMaxPolls && polls_.count(key) == 0) {
    return absl::ResourceExhaustedError(absl::StrCat(key.ToString(), ": the shards have voted on ", polls_.size(), " other things"));
  }
  return absl::OkStatus();
}

void Reducer::Vote(Ballot ballot, Done done) {
  Answers answers;
  {
    absl::MutexLock lock(&mu_);
    const VoteKey key = ballot.key;
    const auto known = polls_.find(key);
    if (known == polls_.end() || !known->second.outcome) {
      if (absl::Status status = CheckKey(key); !status.ok()) {
        answers.push_back([done = std::move(done), status = std::move(status)] { done(StepOutcome::Abort(status)); });
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
        const auto [found, is_new] = polls_.try_emplace(key);
        Poll& poll = found->second;
        if (is_new) poll.opened = timer_->Now();
        if (Done& waiting = poll.waiting[ballot.shard]; waiting != nullptr) {
          answers.push_back([waiting = std::exchange(waiting, nullptr)] { waiting(StepOutcome()); });
        }
        poll.waiting[ballot.shard] = std::move(done);
        if (highest > key.attempt) {
          Decide(poll,
                 StepOutcome::Abort(absl::AbortedError(absl::StrCat(key.ToString(), ": the shards have gone on to attempt ", highest))),
                 &answers);
        } else {
          Count(poll, std::move(ballot), &answers);
        }
      }
    } else {
      StepOutcome outcome = *known->second.outcome;
      if (outcome.decision == StepOutcome::Decision::kCommit && ballot.status.ok() && ballot.digest != known->second.digest) {
        outcome = StepOutcome::Abort(absl::FailedPreconditionError(
            absl::StrCat(peers_->NameOf(ballot.shard), " received different data for ", key.ToString(), " than was decided about")));
      }
      answers.push_back([done = std::move(done), outcome = std::move(outcome)] { done(outcome); });
    }
  }
  for (const auto& answer : answers) answer();
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
    it = (it->first.evaluate || it->first.step < step) && it->second.outcome ? polls_.erase(it) : std::next(it);
  }
}

void Reducer::ArmProbe(const VoteKey& key, Poll& poll) {
  poll.probe = timer_->RunAt(timer_->Now() + options_.shard_wait / 4, [self = weak_from_this(), key] {
    if (const std::shared_ptr<Reducer> reducer = self.lock()) reducer->Probe(key);
  });
}

void Reducer::Probe(const VoteKey& key) {
  std::vector<int> missing;
  Answers answers;
  {
    absl::MutexLock lock(&mu_);
    const auto found = polls_.find(key);
    if (found == polls_.end() || found->second.outcome) return;
    Poll& poll = found->second;
    std::vector<std::string> names;
    for (int shard = 0; shard < options_.shard_count; ++shard) {
      if (poll.ballots[shard]) continue;
      names.push_back(peers_->NameOf(shard));
      if (shard != options_.own_shard) missing.push_back(shard);
    }
    if (timer_->Now() - poll.opened < options_.vote_wait) {
      ArmProbe(key, poll);
    } else {
      Decide(poll,
             StepOutcome::Abort(absl::AbortedError(absl::StrCat(absl::StrJoin(names, ", "), " did not vote on ", key.ToString(), " within ",
                                                                absl::FormatDuration(options_.vote_wait), " of the first vote"))),
             &answers);
      missing.clear();
    }
  }
  for (const auto& answer : answers) answer();
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
