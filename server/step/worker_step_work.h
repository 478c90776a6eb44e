#ifndef MYRIAD_SERVER_STEP_WORKER_STEP_WORK_H_
#define MYRIAD_SERVER_STEP_WORKER_STEP_WORK_H_

#include <memory>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "head/partitions.h"
#include "head/sampler.h"
#include "server/step/look_ahead.h"
#include "server/step/shard_step_work.h"
#include "server/step/step_work.h"
#include "server/store/row_store.h"

namespace myriad {

// The phases of a step of compute at the worker: fetch, then (at the step's reducer only) merge, then apply.
struct WorkerPhases {
  WorkerPhases(int64_t step, int own_shard, int shard_count)
      : count(step % shard_count == own_shard ? 3 : 2), apply(count - 1), has_merge(count == 3) {}
  static constexpr int kFetch = 0;
  static constexpr int kMerge = 1;
  int count;
  int apply;
  bool has_merge;
};

// Compute at the worker (design section 4). Fetch draws and pins this shard's rows of the step and gives rank r slice r of R of them; merge
// combines the ranks' partial denominators and moves nothing; apply takes each row's gradient from the one rank that had it, and the
// shards' vote on it carries no denominators. W moves before the reply.
class WorkerStepWork : public StepWork {
 public:
  // What a step of n rows keeps beside them at its height, in rows of D floats: n times this. First the replies, their messages and what
  // goes out of those; then the gradients' messages and the gradients.
  static constexpr int kCopiesOfRows = 3;

  WorkerStepWork(const StepWorkOptions& options, std::shared_ptr<RowStore> store);

  bool Votes(int phase, int phase_count) const override { return phase + 1 == phase_count; }
  int ChunkOf(int) const override { return 0; }
  int AgreedPhase(int) const override { return WorkerPhases::kFetch; }
  absl::StatusOr<Share> Compute(const Phase& phase) override;
  absl::StatusOr<std::vector<RankReply>> Reply(const std::shared_ptr<const MergedDenominators>& merged, double vote_seconds) override;
  absl::Status Settle(bool last) override;
  void Abandon() override;
  void Release() override;

 private:
  absl::Status Fetch(const Phase& phase);
  absl::Status Merge(const Phase& phase);
  absl::Status TakeGradients(const Phase& phase);
  // Rows [first, second) of the step's are rank r's.
  std::pair<int64_t, int64_t> Slice(int rank) const;
  std::vector<RankReply> FetchReplies();
  void Apply();
  // The calling thread's part of scratch_.
  float* Scratch();

  const StepWorkOptions options_;
  const std::shared_ptr<RowStore> store_;
  const Partitions partitions_;
  LookAhead look_ahead_;

  int64_t step_ = 0;
  int rank_count_ = 1;
  double learning_rate_ = 0;
  enum class Stage { kFetched, kMerged, kReadyToApply, kApplying, kApplied } stage_ = Stage::kFetched;
  StepRows rows_;
  std::shared_ptr<const std::vector<int64_t>> labels_;
  std::shared_ptr<const std::vector<int32_t>> rank_sizes_;
  std::shared_ptr<const MergedDenominators> merged_;
  at::Tensor gradients_;        // Row gradients of the step, reused from step to step.
  std::vector<float> scratch_;  // What a row of the pin may need, for each thread.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_WORKER_STEP_WORK_H_
