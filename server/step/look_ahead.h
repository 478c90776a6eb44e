#ifndef MYRIAD_SERVER_STEP_LOOK_AHEAD_H_
#define MYRIAD_SERVER_STEP_LOOK_AHEAD_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "head/head_spec.h"
#include "head/partitions.h"
#include "head/pool_rotation.h"
#include "proto/wire/coming_labels.h"
#include "server/store/row_store.h"

namespace myriad {

// What a shard tells its store of the steps to come, so that rows which lie on disk are in memory when a step pins them: the partitions of
// the pools to come, which the step's number alone tells; and, as far as the ranks announce labels, the rows of those and the draws of
// their steps.
//
// Hints only. A label that is out of range, of another shard or of no step changes no result, and what fails here (an allocation) fails no
// step. Used on the head's strand alone.
class LookAhead {
 public:
  LookAhead(const Partitions& partitions, const SamplerOptions& sampler, int shard, int shard_count, std::shared_ptr<RowStore> store);

  // A step begins: what was announced before is over. With the run's first one the store is told of its pool, as no step has ended before
  // it, or that there is none any more.
  void Begin(int64_t step);
  // What one rank announces with the step.
  void Take(const ComingLabels& labels);
  // The step has ended and is answered: tells the store what comes next.
  void Tell();

 private:
  struct Sample {
    int64_t step;
    std::vector<int64_t> class_ids;
  };

  // Tells the store of the partitions in the pool at `step` or soon after.
  void KeepPools(int64_t step);
  // This shard's draws of a coming step; each is computed once. Requires: calls in increasing order of steps.
  const std::vector<int64_t>& DrawsOf(int64_t step);

  const Partitions partitions_;
  const SamplerOptions sampler_;
  const int shard_;
  const int shard_count_;
  const std::shared_ptr<RowStore> store_;
  const bool is_of_use_;  // Else nothing is computed.
  const std::optional<PoolRotation> rotation_;

  int64_t step_ = 0;
  bool has_begun_ = false;
  ComingLabels coming_;         // Of this shard's classes, of all ranks.
  std::deque<Sample> samples_;  // Of coming steps, increasing.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_LOOK_AHEAD_H_
