#ifndef MYRIAD_SERVER_STEP_VOTE_H_
#define MYRIAD_SERVER_STEP_VOTE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "head/partial_denominator.h"
#include "server/step/digest.h"

namespace myriad {

// What the shards vote about: one chunk of one attempt at one step.
struct VoteKey {
  int64_t incarnation = 0;
  bool evaluate = false;  // Evaluations are numbered apart from the steps that move W.
  int64_t step = 0;
  int attempt = 0;
  int chunk = 0;

  friend bool operator==(const VoteKey& a, const VoteKey& b) { return a.AsTuple() == b.AsTuple(); }
  friend bool operator<(const VoteKey& a, const VoteKey& b) { return a.AsTuple() < b.AsTuple(); }
  std::tuple<int64_t, bool, int64_t, int, int> AsTuple() const { return {incarnation, evaluate, step, attempt, chunk}; }
  std::string ToString() const {
    return absl::StrCat(evaluate ? "evaluation " : "step ", step, " attempt ", attempt, chunk == 0 ? "" : absl::StrCat(" chunk ", chunk));
  }
};

// One shard's vote.
struct Ballot {
  VoteKey key;
  int shard = 0;
  absl::Status status;        // OK is YES; anything else is NO with the reason that all ranks get.
  Digest digest;              // With YES: of everything that the shard received from the ranks for this chunk.
  int64_t sample_count = 0;   // With YES: B of the chunk.
  Denominators denominators;  // With YES: the shard's share; empty for compute at the worker.
};

// What was decided. COMMIT and ABORT are final.
struct StepOutcome {
  enum class Decision { kUnknown, kCommit, kAbort };
  Decision decision = Decision::kUnknown;
  absl::Status status;                               // With ABORT.
  std::shared_ptr<const MergedDenominators> merged;  // With COMMIT.

  static StepOutcome Commit(std::shared_ptr<const MergedDenominators> merged) {
    return {Decision::kCommit, absl::OkStatus(), std::move(merged)};
  }
  static StepOutcome Abort(absl::Status status) { return {Decision::kAbort, std::move(status), nullptr}; }
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_VOTE_H_
