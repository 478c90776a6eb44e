#include "head/sampler.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "head/counter_random.h"
#include "head/keyed_permutation.h"

namespace myriad {
namespace {

constexpr uint64_t kCountOrderPurpose = 16;
constexpr uint64_t kCountOffsetPurpose = 17;
constexpr uint64_t kDrawPurpose = 18;

bool TakesAll(SamplerOptions::Kind kind) { return kind == SamplerOptions::Kind::kAll; }
bool TakesSample(SamplerOptions::Kind kind) { return kind == SamplerOptions::Kind::kUniform || kind == SamplerOptions::Kind::kAllSample; }
// ALL_SAMPLE does not favour positives; for ALL every positive is drawn already.
bool AddsPositives(SamplerOptions::Kind kind) {
  return kind == SamplerOptions::Kind::kUniform || kind == SamplerOptions::Kind::kPositivesOnly;
}

// The order in which a partition's indices are drawn at a step: draw k is index At(k).
KeyedPermutation DrawOrder(const SamplerOptions& options, int64_t step, int32_t partition, int64_t size) {
  return KeyedPermutation(static_cast<uint64_t>(size), StreamKey(options.seed, kDrawPurpose, static_cast<uint64_t>(step), partition));
}

}  // namespace

std::vector<int64_t> DrawCounts(const Partitions& partitions, const SamplerOptions& options, int64_t step, int32_t first, int32_t last) {
  std::vector<int64_t> counts(last - first, 0);
  if (TakesAll(options.kind)) {
    for (int32_t partition = first; partition < last; ++partition) counts[partition - first] = partitions.size(partition);
    return counts;
  }
  if (!TakesSample(options.kind) || options.sample_count == 0) return counts;
  // With classes laid out in the order of the partitions, partition [from, to) draws floor((S to + v)/N) - floor((S from + v)/N) for one
  // v uniform in [0, N): integers throughout, so the sum is exactly S and the mean exactly S (to - from) / N. The remainder of the
  // division goes along from partition to partition; a partition of `base` classes adds S base / N, one of base + 1 another S / N.
  const int64_t class_count = partitions.class_count();
  const int64_t base = class_count / partitions.partition_count();
  const __int128 base_share = static_cast<__int128>(options.sample_count) * base;
  const int64_t base_quotient = static_cast<int64_t>(base_share / class_count);
  const int64_t base_remainder = static_cast<int64_t>(base_share % class_count);
  const KeyedPermutation order(static_cast<uint64_t>(partitions.partition_count()),
                               StreamKey(options.seed, kCountOrderPurpose, static_cast<uint64_t>(step)));
  int64_t remainder = static_cast<int64_t>(
      UniformBelow(StreamKey(options.seed, kCountOffsetPurpose, static_cast<uint64_t>(step)), static_cast<uint64_t>(class_count)));
  for (int position = 0; position < partitions.partition_count(); ++position) {
    const int32_t partition = static_cast<int32_t>(order.At(static_cast<uint64_t>(position)));
    int64_t drawn = base_quotient;
    remainder += base_remainder + (partitions.size(partition) - base) * options.sample_count;  // Below 3 N: S is at most N.
    while (remainder >= class_count) {
      remainder -= class_count;
      ++drawn;
    }
    if (partition >= first && partition < last) counts[partition - first] = drawn;
  }
  return counts;
}

StepRows DrawStepRows(const Partitions& partitions, const SamplerOptions& options, int64_t step, int shard, int shard_count,
                      absl::Span<const int64_t> labels) {
  const auto [first, last] = partitions.ShardRange(shard, shard_count);
  const std::vector<int64_t> counts = DrawCounts(partitions, options, step, first, last);
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
    const KeyedPermutation order = DrawOrder(options, step, partition, partitions.size(partition));
    for (int64_t draw = 0; draw < count; ++draw) {
      const int64_t index = static_cast<int64_t>(order.At(static_cast<uint64_t>(draw)));
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
      int64_t draw = place.index;
      if (!TakesAll(options.kind) && count > 0) {
        const KeyedPermutation order = DrawOrder(options, step, place.partition, partitions.size(place.partition));
        draw = static_cast<int64_t>(order.Inverse(static_cast<uint64_t>(place.index)));
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
