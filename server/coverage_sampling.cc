#include "server/coverage_sampling.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "head/partitions.h"
#include "server/store/row_key.h"

namespace myriad {
namespace {

constexpr int64_t kStretches = 64;
constexpr int64_t kRowsAtOnce = 1024;
// Of the golden ratio: multiples of it lie evenly in [0, 1), however many there are.
constexpr double kGolden = 0.6180339887498949;

class Sampling : public std::enable_shared_from_this<Sampling> {
 public:
  using Done = std::function<void(absl::StatusOr<Coverage>)>;

  Sampling(std::shared_ptr<HeadShard> head, int64_t sample_rows, Done done)
      : head_(std::move(head)), stretch_rows_((sample_rows + kStretches - 1) / kStretches), done_(std::move(done)) {
    const HeadShard::Info info = head_->info();
    const Partitions partitions(info.head.class_count, info.head.seed, info.head.partition_count);
    coverage_.class_count = partitions.ShardSize(info.shard_index, info.shard_count);
    coverage_.row_count = info.row_count;
    coverage_.committed_steps = info.committed_steps;
    const auto [first, last] = partitions.ShardRange(info.shard_index, info.shard_count);
    for (int64_t i = 0; i < kStretches && first < last; ++i) {
      const int32_t partition = static_cast<int32_t>(first + (last - first) * i / kStretches);
      const double part = std::fmod(static_cast<double>(i) * kGolden, 1.0);
      begins_.push_back(KeyOfPlace({partition, static_cast<int64_t>(part * static_cast<double>(partitions.size(partition)))}) - 1);
    }
  }

  void Scan() {
    if (stretch_ == begins_.size()) return Finish();
    // Where few rows exist a stretch runs into the next ones: none is counted twice.
    const int64_t after = std::max(begins_[stretch_], last_key_);
    head_->ScanKeys(after, stretch_rows_, [self = shared_from_this()](absl::StatusOr<std::vector<int64_t>> keys) {
      if (!keys.ok()) return self->done_(keys.status());
      ++self->stretch_;
      self->keys_ = *std::move(keys);
      self->next_ = 0;
      if (!self->keys_.empty()) self->last_key_ = self->keys_.back();
      self->ReadSome();
    });
  }

 private:
  void ReadSome() {
    if (next_ == keys_.size()) return Scan();
    const size_t count = std::min<size_t>(kRowsAtOnce, keys_.size() - next_);
    std::vector<int64_t> part(keys_.begin() + next_, keys_.begin() + next_ + count);
    next_ += count;
    head_->ReadKeys(std::move(part), /*with_slots=*/false, [self = shared_from_this()](const absl::StatusOr<HeadShard::Rows>& rows) {
      if (!rows.ok()) return self->done_(rows.status());
      self->Count(*rows);
      self->ReadSome();
    });
  }

  void Count(const HeadShard::Rows& rows) {
    const int64_t dim = rows.weights.size(1);
    const float* weights = rows.weights.const_data_ptr<float>();
    for (size_t row = 0; row < rows.class_ids.size(); ++row, weights += dim) {
      double square = 0;
      for (int64_t d = 0; d < dim; ++d) square += static_cast<double>(weights[d]) * weights[d];
      norms_.push_back(std::sqrt(square));
      if (rows.last_step[row] < 0) {
        ++coverage_.given_rows;
      } else {
        CountSteps(std::max<int64_t>(0, coverage_.committed_steps - 1 - rows.last_step[row]), &coverage_.steps_since_moved);
      }
    }
  }

  void Finish() {
    coverage_.sampled_rows = static_cast<int64_t>(norms_.size());
    SummarizeNorms(std::move(norms_), &coverage_);
    head_->positives().Summarize(coverage_.committed_steps, &coverage_);
    done_(std::move(coverage_));
  }

  const std::shared_ptr<HeadShard> head_;
  const int64_t stretch_rows_;
  const Done done_;
  Coverage coverage_;
  std::vector<int64_t> begins_;  // Keys after which the stretches begin.
  size_t stretch_ = 0;
  int64_t last_key_ = -1;
  std::vector<int64_t> keys_;  // Of the stretch; read up to next_.
  size_t next_ = 0;
  std::vector<double> norms_;
};

}  // namespace

void SampleCoverage(std::shared_ptr<HeadShard> head, int64_t sample_rows, std::function<void(absl::StatusOr<Coverage>)> done) {
  std::make_shared<Sampling>(std::move(head), sample_rows, std::move(done))->Scan();
}

}  // namespace myriad
