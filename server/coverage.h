#ifndef MYRIAD_SERVER_COVERAGE_H_
#define MYRIAD_SERVER_COVERAGE_H_

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace myriad {

// How training covers the classes of a head on one shard. Histograms by steps: entry 0 counts the last step, entry i the steps
// [2^(i-1), 2^i) before it.
struct Coverage {
  int64_t class_count = 0;
  int64_t row_count = 0;  // The other classes were never drawn and never positive.
  int64_t committed_steps = 0;
  int64_t sampled_rows = 0;
  int64_t given_rows = 0;                  // Of the sample: given from outside, and not moved since.
  std::vector<int64_t> steps_since_moved;  // The others.
  int64_t watched_classes = 0;
  int64_t never_positive = 0;  // Of the watched classes, since the server started.
  std::vector<int64_t> steps_since_positive;
  double norm_mean = 0.0;
  std::vector<double> norm_quantiles;  // 0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.
};

// Counts `steps` in a histogram as above. Requires: steps >= 0.
void CountSteps(int64_t steps, std::vector<int64_t>* histogram);
// Mean and quantiles of norms into a Coverage.
void SummarizeNorms(std::vector<double> norms, Coverage* coverage);

// When classes were last positive, for a part of a shard's classes that a hash picks: memory is bounded whatever N is. Thread-safe.
class PositiveWatch {
 public:
  // Watches about `most_classes` of the shard's `class_count` classes, or all of them.
  explicit PositiveWatch(int64_t class_count, int64_t most_classes = 1 << 16);

  // The shard has `class_count` classes from now on, no fewer than before; of those that were watched about `most_classes` still are.
  void Grow(int64_t class_count) ABSL_LOCKS_EXCLUDED(mu_);
  // The labels of a step that are of this shard; a class may repeat. May throw std::bad_alloc.
  void Record(int64_t step, absl::Span<const int64_t> labels) ABSL_LOCKS_EXCLUDED(mu_);
  // Fills in what `coverage` says of positives, after `committed_steps`.
  void Summarize(int64_t committed_steps, Coverage* coverage) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  bool IsWatched(int64_t class_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int64_t most_classes_;
  mutable absl::Mutex mu_;
  uint64_t one_in_ ABSL_GUARDED_BY(mu_);  // A class of so many is watched.
  int64_t class_count_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<int64_t, int64_t> last_positive_ ABSL_GUARDED_BY(mu_);  // Class to step.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_COVERAGE_H_
