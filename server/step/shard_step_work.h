#ifndef MYRIAD_SERVER_STEP_SHARD_STEP_WORK_H_
#define MYRIAD_SERVER_STEP_SHARD_STEP_WORK_H_

#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "head/sampler.h"
#include "head/softmax_share.h"
#include "server/coverage.h"
#include "server/runtime/timer.h"
#include "server/step/look_ahead.h"
#include "server/step/step_work.h"
#include "server/store/row_store.h"

namespace myriad {

// What a step's computation needs to know of its head and run.
struct StepWorkOptions {
  HeadSpec head;
  TrainingSpec training;
  int own_shard = 0;
  int shard_count = 1;
  std::shared_ptr<PositiveWatch> positives;  // Is told of each step's.
};

// Tells the watch which of a step's labels are of this shard.
void RecordPositives(const StepWorkOptions& options, const Partitions& partitions, int64_t step, absl::Span<const int64_t> labels);

// Compute at the shard (design section 4): a phase is a chunk of HeadStep. Chunk 0 draws and pins the rows of the step, every chunk gets
// partial denominators and then shares of dX; W moves after the last. An evaluation works on copies of the rows and moves nothing.
class ShardStepWork : public StepWork {
 public:
  // What a step of n rows keeps beside them, in rows of D floats: n times this.
  static constexpr int kCopiesOfRows = 1;

  // `timer` outlives the object.
  ShardStepWork(const StepWorkOptions& options, bool evaluate, std::shared_ptr<RowStore> store, const Timer* timer);

  bool Votes(int, int) const override { return true; }
  int ChunkOf(int phase) const override { return phase; }
  int AgreedPhase(int phase) const override { return phase; }
  absl::StatusOr<Share> Compute(const Phase& phase) override;
  absl::StatusOr<std::vector<RankReply>> Reply(const std::shared_ptr<const MergedDenominators>& merged, double vote_seconds) override;
  absl::Status Settle(bool last) override;
  void Abandon() override;
  void Release() override;

 private:
  // Chunk 0: the labels of the step, its rows, and where each rank's samples begin among them.
  absl::Status BeginStep(const Phase& phase);
  // Finds each sample of the chunk among the step's labels; refuses those that differ.
  absl::Status TakeChunkLabels(const Phase& phase, std::vector<int32_t>* target_rows);
  at::Tensor GatherEmbeddings(const Phase& phase);
  absl::Status DescribeForwardError(const absl::Status& status, const at::Tensor& embeddings) const;
  double SecondsSince(absl::Time start) const { return absl::ToDoubleSeconds(timer_->Now() - start); }

  const StepWorkOptions options_;
  const bool evaluate_;
  const std::shared_ptr<RowStore> store_;
  const Timer* const timer_;
  const Partitions partitions_;
  LookAhead look_ahead_;
  std::unique_ptr<SoftmaxShare> share_;  // Until Release().
  int64_t most_rows_ = 0;                // Of any step so far: those that share_ has memory for.

  // The step.
  int64_t step_ = 0;
  double learning_rate_ = 0;
  StepRows rows_;
  std::vector<int64_t> labels_;      // Of all ranks, in rank order.
  std::vector<int64_t> rank_begin_;  // R + 1: where each rank's labels begin.
  std::vector<int64_t> rank_taken_;  // R: how many of a rank's labels chunks have used.
  int64_t target_count_ = 0;         // Samples of the step that have a target on any shard.
  // The chunk.
  std::vector<int64_t> chunk_sizes_;  // R.
  at::Tensor gathered_;               // B x D, where there are several ranks.
  std::shared_ptr<const MergedDenominators> merged_;
  ChunkStatistics statistics_;
  double apply_seconds_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_SHARD_STEP_WORK_H_
