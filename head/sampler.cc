#include "head/sampler.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "head/counter_random.h"
#include "head/keyed_permutation.h"
#include "head/pool_rotation.h"

namespace myriad {
namespace {

constexpr uint64_t kCountOrderPurpose = 16;
constexpr uint64_t kCountOffsetPurpose = 17;
constexpr uint64_t kDrawPurpose = 18;

bool TakesAll(SamplerOptions::Kind kind) { return kind == SamplerOptions::Kind::kAll; }
bool TakesSample(SamplerOptions::Kind kind) {
  return kind == SamplerOptions::Kind::kUniform || kind == SamplerOptions::Kind::kAllSample || HasPool(kind);
}
// ALL_SAMPLE does not favour positives; for ALL every positive is drawn already.
bool AddsPositives(SamplerOptions::Kind kind) {
  return kind == SamplerOptions::Kind::kUniform || kind == SamplerOptions::Kind::kPositivesOnly || HasPool(kind);
}

// The rows that the draws of a step come from, by partition.
std::vector<PartitionRows> RowsToDrawFrom(const Partitions& partitions, const SamplerOptions& options, int64_t step) {
  if (HasPool(options.kind)) return PoolRotation(partitions, options).RowsOf(step);
  std::vector<PartitionRows> rows(partitions.partition_count());
  for (int32_t partition = 0; partition < partitions.partition_count(); ++partition) {
    rows[partition].size = rows[partition].count = partitions.size(partition);
  }
  return rows;
}

// The order in which a partition's rows are drawn at a step: draw k is row At(k) of those there are to draw from.
KeyedPermutation DrawOrder(const SamplerOptions& options, int64_t step, int32_t partition, int64_t count) {
  return KeyedPermutation(static_cast<uint64_t>(count), StreamKey(options.seed, kDrawPurpose, static_cast<uint64_t>(step), partition));
}

std::vector<int64_t> CountsOf(absl::Span<const PartitionRows> from, const SamplerOptions& options, int64_t step, int32_t first,
                              int32_t last) {
  std::vector<int64_t> counts(last - first, 0);
  if (TakesAll(options.kind)) {
    for (int32_t partition = first; partition < last; ++partition) counts[partition - first] = from[partition].count;
    return counts;
  }
  if (!TakesSample(options.kind) || options.sample_count == 0) return counts;
  // With the M rows laid out in the order of the partitions, partition [begin, end) draws floor((S end + v)/M) - floor((S begin + v)/M)
  // for one v uniform in [0, M): integers throughout, so the sum is exactly S and the mean exactly S (end - begin) / M. The remainder
  // of the division goes along from partition to partition.
  int64_t total = 0;
  for (const PartitionRows& rows : from) total += rows.count;
  const KeyedPermutation order(from.size(), StreamKey(options.seed, kCountOrderPurpose, static_cast<uint64_t>(step)));
  unsigned __int128 remainder =
      UniformBelow(StreamKey(options.seed, kCountOffsetPurpose, static_cast<uint64_t>(step)), static_cast<uint64_t>(total));
  for (size_t position = 0; position < from.size(); ++position) {
    const int32_t partition = static_cast<int32_t>(order.At(position));
    remainder += static_cast<unsigned __int128>(options.sample_count) * from[partition].count;
    const int64_t drawn = static_cast<int64_t>(remainder / total);
    remainder -= static_cast<unsigned __int128>(drawn) * total;
    if (partition >= first && partition < last) counts[partition - first] = drawn;
  }
  return counts;
}

}  // namespace

std::vector<int64_t> DrawCounts(const Partitions& partitions, const SamplerOptions& options, int64_t step, int32_t first, int32_t last) {
  return CountsOf(RowsToDrawFrom(partitions, options, step), options, step, first, last);
}

StepRows DrawStepRows(const Partitions& partitions, const SamplerOptions& options, int64_t step, int shard, int shard_count,
                      absl::Span<const int64_t> labels) {
  const auto [first, last] = partitions.ShardRange(shard, shard_count);
  const std::vector<PartitionRows> from = RowsToDrawFrom(partitions, options, step);
  const std::vector<int64_t> counts = CountsOf(from, options, step, first, last);
  std::vector<int64_t> row_of_first_draw(counts.size());
  StepRows rows;
  for (size_t i = 0; i < counts.size(); ++i) {
    row_of_first_draw[i] = rows.drawn_count;
    rows.drawn_count += counts[i];
  }
  rows.class_ids.reserve(rows.drawn_count + labels.size());
  for (int32_t partition = first; partition < last; ++partition) {
    const int64_t count = counts[partition - first];
    if (count == 0) continue;
    if (TakesAll(options.kind)) {
      for (int64_t index = 0; index < count; ++index) rows.class_ids.push_back(partitions.ClassAt({partition, index}));
      continue;
    }
    const KeyedPermutation order = DrawOrder(options, step, partition, from[partition].count);
    for (int64_t draw = 0; draw < count; ++draw) {
      const int64_t index = from[partition].IndexAt(static_cast<int64_t>(order.At(static_cast<uint64_t>(draw))));
      rows.class_ids.push_back(partitions.ClassAt({partition, index}));
    }
  }

  rows.target_rows.assign(labels.size(), -1);
  absl::flat_hash_map<int64_t, int32_t> row_of_label;
  row_of_label.reserve(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto [known, inserted] = row_of_label.try_emplace(labels[i], -1);
    if (inserted) {
      const Partitions::Place place = partitions.Locate(labels[i]);
      if (place.partition < first || place.partition >= last) continue;
      const int64_t count = counts[place.partition - first];
      // Whether the class was drawn, and when, is asked of the permutation's inverse: no set of the sample is kept.
      const PartitionRows& rows_there = from[place.partition];
      int64_t draw = rows_there.NumberOf(place.index);
      if (!TakesAll(options.kind) && count > 0 && draw < rows_there.count) {
        draw = static_cast<int64_t>(DrawOrder(options, step, place.partition, rows_there.count).Inverse(static_cast<uint64_t>(draw)));
      }
      if (draw < count) {
        known->second = static_cast<int32_t>(row_of_first_draw[place.partition - first] + draw);
      } else if (AddsPositives(options.kind)) {
        known->second = static_cast<int32_t>(rows.class_ids.size());
        rows.class_ids.push_back(labels[i]);
      }
    }
    rows.target_rows[i] = known->second;
  }
  return rows;
}

}  // namespace myriad
