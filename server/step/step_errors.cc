#include "server/step/step_errors.h"

#include <algorithm>

#include "absl/strings/str_join.h"

namespace myriad {
namespace {

constexpr int64_t kMaxStep = int64_t{1} << 60;
constexpr int kMaxAttempt = 1 << 30;
constexpr int kMaxPhases = 1 << 20;
constexpr size_t kRanksNamed = 16;

absl::Status CheckStepAndAttempt(int64_t step, int attempt) {
  if (step < 0 || step > kMaxStep) return absl::InvalidArgumentError(absl::StrCat("step ", step, " is outside [0, ", kMaxStep, "]"));
  if (attempt < 0 || attempt > kMaxAttempt) {
    return absl::InvalidArgumentError(absl::StrCat("attempt ", attempt, " is outside [0, ", kMaxAttempt, "]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCall(const StepCall& call, int rank_count) {
  if (call.rank < 0 || call.rank >= rank_count) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", call.rank, " is outside [0, ", rank_count, ")"));
  }
  if (absl::Status status = CheckStepAndAttempt(call.step, call.attempt); !status.ok()) return status;
  if (call.phase_count < 1 || call.phase_count > kMaxPhases) {
    return absl::InvalidArgumentError(absl::StrCat("chunk_count ", call.phase_count, " is outside [1, ", kMaxPhases, "]"));
  }
  if (call.phase < 0 || call.phase >= call.phase_count) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", call.phase, " is outside [0, ", call.phase_count, ")"));
  }
  return absl::OkStatus();
}

absl::Status CheckVoteKey(const VoteKey& key) {
  if (absl::Status status = CheckStepAndAttempt(key.step, key.attempt); !status.ok()) return status;
  if (key.chunk < 0 || key.chunk >= kMaxPhases) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", key.chunk, " is outside [0, ", kMaxPhases, ")"));
  }
  return absl::OkStatus();
}

absl::Status OldStepError(const std::string& head, bool evaluate, int64_t step, int64_t next_step) {
  if (evaluate) {
    return absl::FailedPreconditionError(
        absl::StrCat("head '", head, "': evaluation ", step, " is over; the next may have number ", next_step));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("head '", head, "': step ", step, " is over; the last committed step is ", next_step - 1));
}

absl::Status EarlyStepError(const std::string& head, bool evaluate, int64_t step, int64_t next_step) {
  const char* kind = evaluate ? "evaluation " : "step ";
  return absl::FailedPreconditionError(absl::StrCat("head '", head, "' is at ", kind, next_step, "; ", kind, step, " comes too early"));
}

std::string MissingRanksMessage(const std::string& step, const std::vector<int32_t>& missing, int rank_count, absl::Duration deadline) {
  const std::vector<int32_t> named(missing.begin(), missing.begin() + std::min(missing.size(), kRanksNamed));
  return absl::StrCat(step, ": rank", missing.size() == 1 ? " " : "s ", absl::StrJoin(named, ", "),
                      missing.size() > named.size() ? absl::StrCat(" and ", missing.size() - named.size(), " more") : "", " of ",
                      rank_count, " did not come within ", absl::FormatDuration(deadline));
}

}  // namespace myriad
