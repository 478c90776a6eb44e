#include "server/step/vote_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace myriad {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(50);
constexpr absl::Duration kMaxBackoff = absl::Seconds(1);

bool IsUnreachable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kCancelled ||
         status.code() == absl::StatusCode::kUnknown;
}

}  // namespace

// One vote on its way. Its calls follow each other, so it needs no lock.
struct VoteExchange::Submission {
  Ballot ballot;
  std::function<void(VoteResult)> done;
  absl::Time unreachable_since = absl::InfiniteFuture();
  absl::Duration backoff = kFirstBackoff;
};

// The question to all peers but the reducer.
struct VoteExchange::Inquiry {
  std::shared_ptr<Submission> submission;
  absl::Status reducer_lost;
  absl::Mutex mu;
  int open ABSL_GUARDED_BY(mu) = 0;
  StepOutcome known ABSL_GUARDED_BY(mu);

  // A peer's answer, or none.
  void Answer(const StepOutcome& outcome) {
    VoteResult result;
    {
      absl::MutexLock lock(&mu);
      if (outcome.decision == StepOutcome::Decision::kCommit) known = outcome;
      if (--open > 0) return;
      result = {known, reducer_lost};
    }
    submission->done(std::move(result));
  }
};

void VoteExchange::Submit(Ballot ballot, std::function<void(VoteResult)> done) {
  if (ReducerOf(ballot.key.step) == options_.own_shard) {
    own_reducer_->Vote(std::move(ballot), [done = std::move(done)](StepOutcome outcome) {
      done(VoteResult{std::move(outcome), absl::OkStatus()});
    });
    return;
  }
  auto submission = std::make_shared<Submission>();
  submission->ballot = std::move(ballot);
  submission->done = std::move(done);
  SendVote(submission);
}

void VoteExchange::Inquire(const VoteKey& key, const absl::Status& why, std::function<void(VoteResult)> done) {
  auto submission = std::make_shared<Submission>();
  submission->ballot.key = key;
  submission->done = std::move(done);
  AskPeers(submission, why);
}

void VoteExchange::SendVote(const std::shared_ptr<Submission>& submission) {
  // A reducer that is there answers when all have voted; the call's own time-out only bounds how long one RPC lives.
  const absl::Duration timeout = std::max(options_.shard_wait, absl::Seconds(10));
  peers_->Vote(ReducerOf(submission->ballot.key.step), submission->ballot, timeout,
               [self = shared_from_this(), submission](absl::StatusOr<StepOutcome> outcome) {
                 if (outcome.ok() && outcome->decision != StepOutcome::Decision::kUnknown) {
                   submission->done(VoteResult{*std::move(outcome), absl::OkStatus()});
                 } else {
                   self->OnVoteError(submission,
                                     outcome.ok() ? absl::InternalError("the reducer answered UNKNOWN to a vote") : outcome.status());
                 }
               });
}

void VoteExchange::OnVoteError(const std::shared_ptr<Submission>& submission, const absl::Status& status) {
  if (absl::IsDeadlineExceeded(status)) {  // It is there and waits for others.
    submission->unreachable_since = absl::InfiniteFuture();
    submission->backoff = kFirstBackoff;
  } else if (IsUnreachable(status)) {
    const absl::Time now = timer_->Now();
    submission->unreachable_since = std::min(submission->unreachable_since, now);
    if (now - submission->unreachable_since >= options_.shard_wait) {
      AskPeers(submission, status);
      return;
    }
  } else {
    AskPeers(submission, status);
    return;
  }
  const absl::Duration backoff = submission->backoff;
  submission->backoff = std::min(2 * backoff, kMaxBackoff);
  timer_->RunAt(timer_->Now() + std::min(backoff, options_.shard_wait),
                [self = shared_from_this(), submission] { self->SendVote(submission); });
}

void VoteExchange::AskPeers(const std::shared_ptr<Submission>& submission, const absl::Status& why) {
  const int reducer = ReducerOf(submission->ballot.key.step);
  auto inquiry = std::make_shared<Inquiry>();
  inquiry->submission = submission;
  inquiry->reducer_lost = absl::DataLossError(
      absl::StrCat(peers_->NameOf(reducer), ", the reducer of ", submission->ballot.key.ToString(), ", is lost: ", why.message()));
  {
    absl::MutexLock lock(&inquiry->mu);
    inquiry->open = 1;  // This call's own, so that early answers do not end the inquiry.
    if (submission->ballot.status.ok()) inquiry->open += options_.shard_count - 2;
  }
  if (submission->ballot.status.ok()) {
    const absl::Time give_up = timer_->Now() + options_.shard_wait;
    for (int shard = 0; shard < options_.shard_count; ++shard) {
      if (shard != reducer && shard != options_.own_shard) AskPeer(inquiry, shard, give_up);
    }
  }
  inquiry->Answer(StepOutcome());
}

void VoteExchange::AskPeer(const std::shared_ptr<Inquiry>& inquiry, int shard, absl::Time give_up) {
  peers_->GetOutcome(shard, inquiry->submission->ballot.key, options_.own_shard, options_.shard_wait,
                     [self = shared_from_this(), inquiry, shard, give_up](absl::StatusOr<StepOutcome> outcome) {
                       if (outcome.ok()) {
                         inquiry->Answer(*outcome);
                       } else if (IsUnreachable(outcome.status()) && self->timer_->Now() < give_up) {
                         self->timer_->RunAt(self->timer_->Now() + std::min(4 * kFirstBackoff, self->options_.shard_wait),
                                             [self, inquiry, shard, give_up] { self->AskPeer(inquiry, shard, give_up); });
                       } else {
                         inquiry->Answer(StepOutcome());  // It is lost as well: it is no living shard that took the step.
                       }
                     });
}

}  // namespace myriad
