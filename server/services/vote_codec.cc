#include "server/services/vote_codec.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr size_t kDigestBytes = 16;

void FillKey(const std::string& head, const VoteKey& key, v1::StepKey* message) {
  message->set_head(head);
  message->set_incarnation(key.incarnation);
  message->set_step(key.step);
  message->set_attempt(key.attempt);
}

v1::StepMode ModeOf(const VoteKey& key) { return key.evaluate ? v1::STEP_MODE_EVALUATE : v1::STEP_MODE_TRAIN; }

absl::StatusOr<VoteKey> ParseKey(const v1::StepKey& key, v1::StepMode mode, int chunk) {
  const absl::StatusOr<bool> evaluate = ParseEvaluate(mode);
  if (!evaluate.ok()) return evaluate.status();
  return VoteKey{key.incarnation(), *evaluate, key.step(), key.attempt(), chunk};
}

// A reason as two fields and, where ranks did not come, the detail that says which: every shard tells its callers.
template <typename Message>
void FillStatus(const absl::Status& status, Message* message) {
  message->set_status_code(static_cast<int>(status.code()));
  message->set_status_message(std::string(status.message()));
  StepAbort abort;
  if (!GetStepAbort(status, &abort)) return;
  message->mutable_aborted()->set_next_attempt(abort.next_attempt);
  for (int32_t rank : abort.missing_ranks) message->mutable_aborted()->add_missing_ranks(rank);
}

// A NO or an ABORT is never OK; a code that is not known is UNKNOWN, as gRPC has it.
template <typename Message>
absl::Status ParseStatus(const Message& message) {
  const int code = message.status_code();
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  const absl::Status status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, message.status_message());
  if (!absl::IsAborted(status) || !message.has_aborted()) return status;
  const auto& ranks = message.aborted().missing_ranks();
  return StepAbortedError(message.status_message(), {message.aborted().next_attempt(), {ranks.begin(), ranks.end()}});
}

}  // namespace

v1::VoteRequest ToProto(const std::string& head, const Ballot& ballot) {
  v1::VoteRequest message;
  FillKey(head, ballot.key, message.mutable_key());
  message.set_mode(ModeOf(ballot.key));
  message.set_chunk(ballot.key.chunk);
  message.set_shard_index(ballot.shard);
  if (!ballot.status.ok()) {
    FillStatus(ballot.status, &message);
    return message;
  }
  message.set_digest(ballot.digest);
  message.set_sample_count(ballot.sample_count);
  *message.mutable_denominators() = ToProto(ballot.denominators);
  return message;
}

absl::StatusOr<Ballot> ParseBallot(const v1::VoteRequest& message) {
  Ballot ballot;
  const absl::StatusOr<VoteKey> key = ParseKey(message.key(), message.mode(), message.chunk());
  if (!key.ok()) return key.status();
  ballot.key = *key;
  ballot.shard = message.shard_index();
  if (message.status_code() != 0) {
    ballot.status = ParseStatus(message);
    return ballot;
  }
  if (message.digest().size() != kDigestBytes) {
    return absl::InvalidArgumentError(absl::StrCat("digest has ", message.digest().size(), " bytes, not ", kDigestBytes));
  }
  ballot.digest = message.digest();
  ballot.sample_count = message.sample_count();
  if (ballot.sample_count < 0) return absl::InvalidArgumentError(absl::StrCat("sample_count ", ballot.sample_count, " is negative"));
  absl::StatusOr<Denominators> denominators = ParseDenominators(message.denominators(), ballot.sample_count);
  if (!denominators.ok()) return denominators.status();
  ballot.denominators = *std::move(denominators);
  return ballot;
}

v1::GetOutcomeRequest ToProto(const std::string& head, const VoteKey& key, int asker) {
  v1::GetOutcomeRequest message;
  FillKey(head, key, message.mutable_key());
  message.set_mode(ModeOf(key));
  message.set_chunk(key.chunk);
  message.set_shard_index(asker);
  return message;
}

absl::StatusOr<VoteKey> ParseVoteKey(const v1::GetOutcomeRequest& message) {
  return ParseKey(message.key(), message.mode(), message.chunk());
}

v1::StepOutcome ToProto(const StepOutcome& outcome) {
  v1::StepOutcome message;
  switch (outcome.decision) {
    case StepOutcome::Decision::kUnknown: message.set_decision(v1::StepOutcome::DECISION_UNKNOWN); break;
    case StepOutcome::Decision::kCommit:
      message.set_decision(v1::StepOutcome::DECISION_COMMIT);
      *message.mutable_merged() = ToProto(*outcome.merged);
      break;
    case StepOutcome::Decision::kAbort:
      message.set_decision(v1::StepOutcome::DECISION_ABORT);
      FillStatus(outcome.status, &message);
      break;
  }
  return message;
}

absl::StatusOr<StepOutcome> ParseOutcome(const v1::StepOutcome& message) {
  switch (message.decision()) {
    case v1::StepOutcome::DECISION_COMMIT: {
      absl::StatusOr<MergedDenominators> merged = ParseMerged(message.merged());
      if (!merged.ok()) return merged.status();
      return StepOutcome::Commit(std::make_shared<const MergedDenominators>(*std::move(merged)));
    }
    case v1::StepOutcome::DECISION_ABORT: return StepOutcome::Abort(ParseStatus(message));
    default: return StepOutcome();
  }
}

}  // namespace myriad
