#ifndef MYRIAD_CLIENT_STEP_PLACEMENT_H_
#define MYRIAD_CLIENT_STEP_PLACEMENT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/head_client.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"

namespace myriad {

// What a step needs of its client. All pointers outlive the placement.
struct StepContext {
  const HeadClient::Options* options = nullptr;
  std::vector<ShardClient*> shards;  // All K, in order.
  CallPolicy policy;
  RankExchange* exchange = nullptr;
};

// Where the logits of a step are computed, as the one thing that differs between steps. Retrying with another attempt is the caller's.
class StepPlacement {
 public:
  virtual ~StepPlacement() = default;

  // Takes a chunk. `input` is borrowed until the last Attempt of it.
  // Errors: INVALID_ARGUMENT (a tensor that cannot be sent, or a chunk that this placement does not have).
  virtual absl::Status Begin(const StepInput& input) = 0;

  // One try on all shards. ABORTED: try again with the attempt that its StepAbort names.
  virtual absl::StatusOr<StepResult> Attempt(int64_t incarnation, int32_t attempt) = 0;
};

// Embeddings go to the shards, their shares of dX come back.
std::unique_ptr<StepPlacement> MakeShardStep(const StepContext& context);

// Centers come from the shards, row gradients go back; the ranks exchange embeddings among themselves.
std::unique_ptr<StepPlacement> MakeWorkerStep(const StepContext& context);

// INVALID_ARGUMENT unless embeddings are a 2-d float32 tensor with a row for each label.
absl::Status CheckStepInput(const StepInput& input);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_STEP_PLACEMENT_H_
