#include "server/step/look_ahead.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "head/sampler.h"
#include "server/step/step_errors.h"

namespace myriad {
namespace {

// How many steps before its first one a pool's partitions are asked for. A step of POOL replaces less than a partition of a large head, one
// of BLOCK the pool: time enough for the first, and no more than the second has use for.
constexpr int64_t kPoolsAhead = 4;

// The samplers whose draws lie anywhere: they can be foretold, one row each.
bool DrawsAnywhere(SamplerOptions::Kind kind) { return kind == SamplerOptions::Kind::kUniform || kind == SamplerOptions::Kind::kAllSample; }

// ALL has every row in every step: there is nothing to tell. For ALL_SAMPLE a label is no reason to have a row.
bool UsesLabels(SamplerOptions::Kind kind) { return kind != SamplerOptions::Kind::kAll && kind != SamplerOptions::Kind::kAllSample; }

template <typename Body>
void AsAHint(Body&& body) {
  CatchAll([&] {
    body();
    return absl::OkStatus();
  }).IgnoreError();
}

}  // namespace

LookAhead::LookAhead(const Partitions& partitions, const SamplerOptions& sampler, int shard, int shard_count,
                     std::shared_ptr<RowStore> store)
    : partitions_(partitions),
      sampler_(sampler),
      shard_(shard),
      shard_count_(shard_count),
      store_(std::move(store)),
      is_of_use_(store_->TakesHints()),
      rotation_(is_of_use_ && HasPool(sampler.kind) ? std::make_optional<PoolRotation>(partitions, sampler) : std::nullopt) {}

void LookAhead::KeepPools(int64_t step) {
  if (!rotation_) return store_->KeepPartitions({});
  const auto [first, last] = partitions_.ShardRange(shard_, shard_count_);
  store_->KeepPartitions(rotation_->ResidentPartitions(step, 1 + kPoolsAhead, first, last));
}

void LookAhead::Begin(int64_t step) {
  if (!is_of_use_) return;
  step_ = step;
  coming_.clear();
  if (std::exchange(has_begun_, true)) return;
  AsAHint([&] { KeepPools(step); });
}

void LookAhead::Take(const ComingLabels& labels) {
  if (!is_of_use_) return;
  AsAHint([&] {
    const size_t steps = std::min<size_t>(labels.size(), kMostComingSteps);
    if (coming_.size() < steps) coming_.resize(steps);
    if (!UsesLabels(sampler_.kind)) return;
    for (size_t ahead = 0; ahead < steps; ++ahead) {
      for (const int64_t label : labels[ahead]) {
        if (label < 0 || label >= partitions_.class_count() || partitions_.ShardOfClass(label, shard_count_) != shard_) continue;
        coming_[ahead].push_back(label);
      }
    }
  });
}

const std::vector<int64_t>& LookAhead::DrawsOf(int64_t step) {
  for (const Sample& sample : samples_) {
    if (sample.step == step) return sample.class_ids;
  }
  samples_.push_back({step, DrawStepRows(partitions_, sampler_, step, shard_, shard_count_, {}).class_ids});
  return samples_.back().class_ids;
}

void LookAhead::Tell() {
  if (!is_of_use_) return;
  AsAHint([&] {
    if (rotation_) KeepPools(step_ + 1);
    while (!samples_.empty() && samples_.front().step <= step_) samples_.pop_front();
    std::vector<int64_t> class_ids;
    absl::flat_hash_set<int64_t> seen;
    const auto add = [&](const std::vector<int64_t>& more) {
      for (const int64_t class_id : more) {
        if (seen.insert(class_id).second) class_ids.push_back(class_id);
      }
    };
    for (size_t ahead = 0; ahead < coming_.size(); ++ahead) {
      add(coming_[ahead]);
      if (DrawsAnywhere(sampler_.kind)) add(DrawsOf(step_ + 1 + static_cast<int64_t>(ahead)));
    }
    if (!class_ids.empty()) store_->Announce(class_ids);
  });
}

}  // namespace myriad
