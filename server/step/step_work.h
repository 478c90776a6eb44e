#ifndef MYRIAD_SERVER_STEP_STEP_WORK_H_
#define MYRIAD_SERVER_STEP_STEP_WORK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "head/partial_denominator.h"
#include "proto/wire/coming_labels.h"
#include "server/step/digest.h"
#include "server/store/row_store.h"

namespace myriad {

// What one rank brings to one phase of a step. Tensors may be views of the request: they are valid until the call is answered.
struct HeadStepPart {
  at::Tensor embeddings;             // B_r x D float32.
  std::vector<int64_t> labels;       // B_r.
  std::vector<int64_t> step_labels;  // Chunk 0 of several: the labels of all chunks.
  ComingLabels coming_labels = {};   // Chunk 0. Hints, and no part of the digest.
};
struct FetchPart {
  std::vector<int64_t> labels;      // B_r.
  ComingLabels coming_labels = {};  // As above.
};
struct MergePart {
  Denominators denominators;  // Of all B samples over the rank's slices.
};
struct ApplyPart {
  std::vector<int64_t> class_ids;
  at::Tensor gradients;  // class_ids.size() x D float32.
};
using RankPart = std::variant<HeadStepPart, FetchPart, MergePart, ApplyPart>;

// Figures of a chunk on one shard.
struct ChunkStatistics {
  double loss = 0;
  int64_t sample_count = 0;
  int64_t target_count = 0;
  double target_cosine_sum = 0;
  int64_t row_count = 0;
  int64_t degenerate_count = 0;
  RowStore::PinFigures rows;  // Of the step, with its chunk 0.
  double gather_seconds = 0;
  double forward_seconds = 0;
  double vote_seconds = 0;
  double apply_seconds = 0;
};

// What one rank gets.
struct HeadStepReply {
  at::Tensor embedding_gradients;  // B_r x D.
  ChunkStatistics statistics;
};
struct FetchReply {
  std::vector<int64_t> class_ids;
  at::Tensor centers;
  std::shared_ptr<const std::vector<int64_t>> all_labels;
  std::shared_ptr<const std::vector<int32_t>> rank_sizes;
};
struct MergeReply {
  std::shared_ptr<const MergedDenominators> merged;
};
struct ApplyReply {
  int64_t row_count = 0;
};
using RankReply = std::variant<HeadStepReply, FetchReply, MergeReply, ApplyReply>;

// One call of one rank.
using StepDone = std::function<void(absl::StatusOr<std::shared_ptr<const RankReply>>)>;
struct StepCall {
  int64_t step = 0;
  int attempt = 0;
  int phase = 0;        // Which of the step's rounds of calls: the chunk, or fetch, merge (at the reducer), apply.
  int phase_count = 1;  // How many the step has; equal for all ranks.
  int rank = 0;
  bool has_learning_rate = false;
  double learning_rate = 0;  // Equal for all ranks.
  Digest digest;             // Of the part: a repeat has the same.
  RankPart part;
  absl::Status invalid;  // Not OK: the part is of no use, and the step is to be refused for all ranks with this.
  StepDone done;         // Called once, on any thread.
};

// What a step computes, phase by phase. The engine calls it on the head's strand: serially, for one step at a time. Implementations may
// throw (LibTorch does); the engine converts.
class StepWork {
 public:
  struct Phase {
    int64_t step = 0;
    int phase = 0;
    int phase_count = 1;
    double learning_rate = 0;
    std::vector<const RankPart*> parts;  // One a rank, in rank order; never null. Valid during Compute() only.
  };
  // A shard's share of the vote.
  struct Share {
    int64_t sample_count = 0;
    Denominators denominators;
  };

  virtual ~StepWork() = default;

  // Whether the outcome of the phase needs all shards, and under which chunk number they vote on it (also a NO for a phase that does not).
  virtual bool Votes(int phase, int phase_count) const = 0;
  virtual int ChunkOf(int phase) const = 0;
  // The phase whose calls every shard receives alike: what the votes' digests must agree on.
  virtual int AgreedPhase(int phase) const = 0;

  // Everything that can fail. After OK, Reply() and Settle() touch memory only. An error refuses the step for all ranks.
  virtual absl::StatusOr<Share> Compute(const Phase& phase) = 0;
  // After COMMIT (`merged`), or at once for a phase that does not vote (nullptr): the ranks' replies, in rank order.
  virtual absl::StatusOr<std::vector<RankReply>> Reply(const std::shared_ptr<const MergedDenominators>& merged, double vote_seconds) = 0;
  // After the replies have left: what is left to do. `last`: the step's last phase; rows have moved when it returns.
  virtual absl::Status Settle(bool last) = 0;
  // The step is given up after Compute() of any of its phases; nothing has moved.
  virtual void Abandon() = 0;
  // No step will come any more: lets go of the memory that steps reuse. The last call.
  virtual void Release() = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_STEP_WORK_H_
