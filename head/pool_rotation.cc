#include "head/pool_rotation.h"

#include <algorithm>

#include "head/counter_random.h"

namespace myriad {
namespace {

constexpr uint64_t kRingPurpose = 19;

// The scrambled van der Corput sequence of [0, count), grown bit by bit: the order of half as many, each now the upper part of two numbers
// of which its key says which one stands in the first half of the ring.
std::vector<int32_t> RingOrder(int count, uint64_t seed) {
  std::vector<int32_t> order(count, 0);
  for (int half = 1; half < count; half *= 2) {
    for (int place = 0; place < half; ++place) {
      const int32_t bit = static_cast<int32_t>(StreamKey(seed, kRingPurpose, half, place) & 1);
      order[place + half] = 2 * order[place] + 1 - bit;
      order[place] = 2 * order[place] + bit;
    }
  }
  return order;
}

}  // namespace

int64_t DefaultPoolSize(int64_t sample_count, int64_t class_count) {
  constexpr int64_t kSamplesInPool = 32;
  return sample_count > class_count / kSamplesInPool ? class_count : kSamplesInPool * sample_count;
}

int64_t DefaultRotatedRows(int64_t sample_count) { return std::max<int64_t>(1, sample_count / 16); }

bool HasPool(SamplerOptions::Kind kind) { return kind == SamplerOptions::Kind::kPool || kind == SamplerOptions::Kind::kBlock; }

PoolRotation::PoolRotation(const Partitions& partitions, const SamplerOptions& options)
    : class_count_(partitions.class_count()),
      pool_size_(options.kind == SamplerOptions::Kind::kBlock ? options.sample_count : options.pool_size),
      rotated_rows_(options.kind == SamplerOptions::Kind::kBlock ? options.sample_count : options.rotated_rows),
      ring_(RingOrder(partitions.partition_count(), options.seed)),
      begin_(ring_.size()),
      size_(ring_.size()) {
  int64_t place = 0;
  for (const int32_t partition : ring_) {
    begin_[partition] = place;
    size_[partition] = partitions.size(partition);
    place += size_[partition];
  }
}

std::vector<PartitionRows> PoolRotation::RowsOf(int64_t step, int64_t step_count) const {
  const int64_t start = static_cast<int64_t>(static_cast<unsigned __int128>(step) * rotated_rows_ % class_count_);
  // A step replaces no more than the pool, so the pools of steps in a row leave no gap.
  const __int128 reach = static_cast<__int128>(rotated_rows_) * (step_count - 1) + pool_size_;
  const int64_t length = reach < class_count_ ? static_cast<int64_t>(reach) : class_count_;
  std::vector<PartitionRows> rows(size_.size());
  for (size_t partition = 0; partition < rows.size(); ++partition) {
    const int64_t size = size_[partition];
    // How far the partition begins behind the start of the pool. Its first rows are in the pool if it begins before the end; its last
    // ones if it reaches round to the start; both where the pool is nearly all of the ring.
    const int64_t ahead = begin_[partition] - start + (begin_[partition] < start ? class_count_ : 0);
    const int64_t first_rows = std::clamp<int64_t>(length - ahead, 0, size);
    const int64_t rows_before_start = std::min(class_count_ - ahead, size);
    const int64_t last_rows = std::min(size - rows_before_start, length);
    PartitionRows& in_pool = rows[partition];
    in_pool.size = size;
    in_pool.count = first_rows + last_rows;
    in_pool.first = last_rows > 0 && in_pool.count < size ? rows_before_start : 0;
  }
  return rows;
}

std::vector<int32_t> PoolRotation::ResidentPartitions(int64_t step, int64_t step_count, int32_t first, int32_t last) const {
  const std::vector<PartitionRows> rows = RowsOf(step, step_count);
  std::vector<int32_t> resident;
  for (int32_t partition = first; partition < last; ++partition) {
    if (rows[partition].count > 0) resident.push_back(partition);
  }
  return resident;
}

int64_t PoolRotation::MostResidentRows(int32_t first, int32_t last) const {
  const int64_t count = static_cast<int64_t>(ring_.size());
  const auto rows_at = [&](int64_t place) -> int64_t {
    const int32_t partition = ring_[place % count];
    return partition >= first && partition < last ? size_[partition] : 0;
  };
  // A pool that begins at the last row of a partition reaches farthest beyond it.
  int64_t most = 0, rows = 0, end = 0, end_place = 0;  // Partitions [begin, end) of the ring, which goes on behind its end.
  for (int64_t begin = 0, begin_place = 0; begin < count; ++begin) {
    const int64_t size = size_[ring_[begin]];
    while (end < begin + count && end_place < begin_place + size - 1 + pool_size_) {
      rows += rows_at(end);
      end_place += size_[ring_[end % count]];
      ++end;
    }
    most = std::max(most, rows);
    rows -= rows_at(begin);
    begin_place += size;
  }
  return most;
}

}  // namespace myriad
