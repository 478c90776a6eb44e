#ifndef MYRIAD_HEAD_SAMPLER_H_
#define MYRIAD_HEAD_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partitions.h"

namespace myriad {

// One shard's rows of a step, and where each label's row is among them.
struct StepRows {
  std::vector<int64_t> class_ids;    // Distinct. First the drawn ones (by partition, then draw), then positives that were not drawn.
  int64_t drawn_count = 0;           // The first this many of class_ids were drawn.
  std::vector<int32_t> target_rows;  // For each label: its row in class_ids, or -1 if the class is not this shard's or has no row.
};

// The rows that shard `shard` of `shard_count` uses at `step` (design section 5). A pure function of its arguments; the union over the
// shards is the same set of classes for every shard_count. O(S/K + labels + P) in time and memory at any N (kAll: the shard's classes).
// `labels` are the step's labels of all ranks, each in [0, N) (checked by the caller); a class may repeat.
StepRows DrawStepRows(const Partitions& partitions, const SamplerOptions& options, int64_t step, int shard, int shard_count,
                      absl::Span<const int64_t> labels);

// n_p: how many classes of each partition of [first, last) are drawn at `step`. Systematic randomised rounding of S M_p / M over all
// partitions in an order keyed by (seed, step), where M_p of the partition's classes are among the M that the sampler draws from: all N
// of them, or the pool of the step (head/pool_rotation.h). The counts of all P partitions sum to S, and each expects S M_p / M.
std::vector<int64_t> DrawCounts(const Partitions& partitions, const SamplerOptions& options, int64_t step, int32_t first, int32_t last);

}  // namespace myriad

#endif  // MYRIAD_HEAD_SAMPLER_H_
