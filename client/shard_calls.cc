#include "client/shard_calls.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/wire/answered.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(20);
constexpr absl::Duration kLongestBackoff = absl::Milliseconds(500);

}  // namespace

absl::Status FinalStatus(const ShardClient& shard, const CallPolicy& policy, const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && !IsAnswered(status)) {
    const std::string since =
        policy.shard_wait > absl::ZeroDuration() ? absl::StrCat(" for ", absl::FormatDuration(policy.shard_wait)) : "";
    return absl::Status(policy.lost_code, absl::StrCat(shard.Name(), ": cannot be reached", since, ": ", status.error_message()));
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::Status(policy.lost_code, absl::StrCat(shard.Name(), ": no answer within ", absl::FormatDuration(policy.deadline)));
  }
  return Annotate(FromGrpcStatus(status), shard.Name());
}

PendingCalls::PendingCalls(const CallPolicy& policy) : policy_(policy), arrivals_(std::make_shared<Arrivals>()) {}

PendingCalls::~PendingCalls() {
  Cancel();
  while (in_flight_ > 0) TakeArrivals(absl::InfiniteFuture());
}

void PendingCalls::Start(const ShardClient* shard, Issue issue) {
  calls_.emplace_back();
  calls_.back().shard = shard;
  calls_.back().issue = std::move(issue);
  calls_.back().backoff = kFirstBackoff;
  IssueNow(calls_.size() - 1);
}

void PendingCalls::IssueNow(size_t index) {
  Call& call = calls_[index];
  call.retry_at = absl::InfiniteFuture();
  call.context = std::make_unique<grpc::ClientContext>();
  call.context->set_deadline(absl::ToChronoTime(absl::Now() + policy_.deadline));
  ++in_flight_;
  call.issue(call.context.get(), [index, arrivals = arrivals_](grpc::Status status) {
    absl::MutexLock lock(&arrivals->mu);
    arrivals->ended.emplace_back(index, std::move(status));
  });
}

void PendingCalls::TakeArrivals(absl::Time until) {
  std::deque<std::pair<size_t, grpc::Status>> ended;
  {
    Arrivals* const arrivals = arrivals_.get();
    auto any = [arrivals]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(arrivals->mu) { return !arrivals->ended.empty(); };
    absl::MutexLock lock(&arrivals->mu);
    arrivals->mu.AwaitWithDeadline(absl::Condition(&any), until);
    ended.swap(arrivals->ended);
  }
  for (const auto& [index, status] : ended) {
    --in_flight_;
    HandleEnd(index, status);
  }
}

void PendingCalls::HandleEnd(size_t index, const grpc::Status& status) {
  Call& call = calls_[index];
  const absl::Time now = absl::Now();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && !cancelled_) {
    call.unavailable_since = std::min(call.unavailable_since, now);
    if (now - call.unavailable_since < policy_.shard_wait) {
      call.retry_at = std::min(now + call.backoff, call.unavailable_since + policy_.shard_wait);
      call.backoff = std::min(2 * call.backoff, kLongestBackoff);
      return;
    }
  }
  call.status = FinalStatus(*call.shard, policy_, status);
  call.decided = true;
  if (fatal_.ok() && !cancelled_ && !call.status.ok() && call.status.code() != absl::StatusCode::kAborted) fatal_ = call.status;
}

absl::Status PendingCalls::Wait() {
  while (fatal_.ok() && !cancelled_) {
    absl::Time next_retry = absl::InfiniteFuture();
    bool all_decided = true;
    for (size_t i = 0; i < calls_.size(); ++i) {
      if (calls_[i].retry_at <= absl::Now()) IssueNow(i);
      next_retry = std::min(next_retry, calls_[i].retry_at);
      all_decided = all_decided && calls_[i].decided;
    }
    if (all_decided) return Outcome();
    TakeArrivals(next_retry);
  }
  Cancel();
  while (in_flight_ > 0) TakeArrivals(absl::InfiniteFuture());
  return fatal_.ok() ? absl::CancelledError("the calls were cancelled") : fatal_;
}

void PendingCalls::Cancel() {
  cancelled_ = true;
  for (Call& call : calls_) {
    if (!call.decided && call.context != nullptr) call.context->TryCancel();
  }
}

absl::Status PendingCalls::Outcome() const {
  const Call* chosen = nullptr;
  StepAbort highest;
  for (const Call& call : calls_) {
    if (call.status.ok()) continue;
    StepAbort abort;
    GetStepAbort(call.status, &abort);
    if (chosen == nullptr || abort.next_attempt > highest.next_attempt) {
      chosen = &call;
      highest = abort;
    }
  }
  return chosen == nullptr ? absl::OkStatus() : chosen->status;
}

}  // namespace myriad
