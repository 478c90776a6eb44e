#ifndef MYRIAD_HEAD_POOL_ROTATION_H_
#define MYRIAD_HEAD_POOL_ROTATION_H_

#include <cstdint>
#include <vector>

#include "head/head_spec.h"
#include "head/partitions.h"

namespace myriad {

// Some rows of one partition: `count` of them from index `first` on, where index 0 follows the last one.
struct PartitionRows {
  int64_t size = 0;   // Of the partition.
  int64_t first = 0;  // 0, or in [0, size).
  int64_t count = 0;  // In [0, size].

  // The index of row `k` of these. Requires: k < count.
  int64_t IndexAt(int64_t k) const { return first + k < size ? first + k : first + k - size; }
  // The inverse for any index < size; not less than `count` where it is none of these.
  int64_t NumberOf(int64_t index) const { return index >= first ? index - first : index - first + size; }
};

// What POOL and BLOCK draw when the job does not say: a pool of 32 times the sample, of which a step replaces a sixteenth of the sample.
int64_t DefaultPoolSize(int64_t sample_count, int64_t class_count);
int64_t DefaultRotatedRows(int64_t sample_count);

// True for the samplers whose draws come from a pool.
bool HasPool(SamplerOptions::Kind kind);

// Which rows are in the pool of a step (design section 5), so that the sample of a step lies in partitions that were read as a whole, each
// with one sequential read, and leave as a whole.
//
// All N classes stand on a ring: partition after partition in an order keyed by the sampling seed, and by index within a partition. The
// pool of step t is the M classes from place o(t) = t * rotated_rows mod N on, a function of (seed, t, N) alone: any step can be computed
// without those before it. A step replaces exactly rotated_rows classes, and each class is in the pool for M / rotated_rows steps in a row
// (rounded down or up) of each N / rotated_rows: drawn at rate S/M while it is there, its rate over a cycle is S/N. BLOCK is the pool of
// S classes that is replaced whole: every class once in N/S steps. With M = N the draws are UNIFORM's.
//
// A partition is resident while any of its rows is in the pool: beside the M rows of the pool there are at most those of the two
// partitions at its ends.
//
// The order of the ring is the binary van der Corput sequence with its bits scrambled by key (Owen: Randomly permuted (t,m,s)-nets, 1995):
// each 2^j partitions in a row, counted from a multiple of 2^j, have one in each of the 2^j equal ranges of partition numbers. So
// whatever the number of shards, each has its share of the pool at every step, to within a few partitions.
//
// The order is the same in every cycle, so classes far apart on the ring are never in one pool. That does no harm: negatives of a step do
// not meet each other in the loss, only the positives, which are the batch's and come in an order of their own; every pair of a positive
// and a negative meets at rate S/N. (UNIFORM orders partitions anew at every step for another reason: with a fixed order the roundings
// of the counts would always fall together.) Where N has grown between two runs o(t) is another place of a longer ring, and one
// pool is read anew.
//
// O(P) memory. Thread-safe (immutable).
class PoolRotation {
 public:
  // O(P). Requires: HasPool(options.kind), valid options.
  PoolRotation(const Partitions& partitions, const SamplerOptions& options);

  // M.
  int64_t pool_size() const { return pool_size_; }
  // The rows that are in the pool of any of the steps [step, step + step_count), by partition, P entries. O(P).
  // Requires: step >= 0, step_count >= 1.
  std::vector<PartitionRows> RowsOf(int64_t step, int64_t step_count = 1) const;
  // The partitions of [first, last) that are resident at any of these steps, increasing. O(P).
  std::vector<int32_t> ResidentPartitions(int64_t step, int64_t step_count, int32_t first, int32_t last) const;
  // The most rows that the resident partitions of [first, last) have together at any step. O(P).
  int64_t MostResidentRows(int32_t first, int32_t last) const;

 private:
  int64_t class_count_;
  int64_t pool_size_;
  int64_t rotated_rows_;
  std::vector<int32_t> ring_;   // Partitions in the order of the ring.
  std::vector<int64_t> begin_;  // By partition: the place of its first row on the ring.
  std::vector<int64_t> size_;   // By partition.
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_POOL_ROTATION_H_
