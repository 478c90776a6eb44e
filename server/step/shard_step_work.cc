#include "server/step/shard_step_work.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <string>
#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "server/step/step_inputs.h"

namespace myriad {

void RecordPositives(const StepWorkOptions& options, const Partitions& partitions, int64_t step, absl::Span<const int64_t> labels) {
  try {
    std::vector<int64_t> own;
    for (const int64_t label : labels) {
      if (partitions.ShardOfClass(label, options.shard_count) == options.own_shard) own.push_back(label);
    }
    options.positives->Record(step, own);
  } catch (const std::bad_alloc&) {  // The step is committed by now, and a figure tears no rows.
  }
}

ShardStepWork::ShardStepWork(const StepWorkOptions& options, bool evaluate, std::shared_ptr<RowStore> store, const Timer* timer)
    : options_(options),
      evaluate_(evaluate),
      store_(std::move(store)),
      timer_(timer),
      partitions_(options.head.class_count, options.head.seed, options.head.partition_count),
      look_ahead_(partitions_, options.training.sampler, options.own_shard, options.shard_count, store_),
      share_(std::make_unique<SoftmaxShare>([&] {
        SoftmaxShare::Options share;
        share.margin = options.training.margin;
        share.embedding_dim = options.head.embedding_dim;
        return share;
      }())) {}

absl::Status ShardStepWork::BeginStep(const Phase& phase) {
  const absl::Time start = timer_->Now();
  step_ = phase.step;
  learning_rate_ = phase.learning_rate;
  labels_.clear();
  rank_begin_.assign(1, 0);
  rank_taken_.assign(phase.parts.size(), 0);
  if (!evaluate_) look_ahead_.Begin(step_);
  for (size_t rank = 0; rank < phase.parts.size(); ++rank) {
    const auto& part = std::get<HeadStepPart>(*phase.parts[rank]);
    if (phase.phase_count == 1 && !part.step_labels.empty() && part.step_labels != part.labels) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": step_labels of a step with one chunk differ from its labels"));
    }
    const std::vector<int64_t>& labels = phase.phase_count == 1 ? part.labels : part.step_labels;
    if (absl::Status status = CheckLabels(labels, options_.head.class_count, rank); !status.ok()) return status;
    labels_.insert(labels_.end(), labels.begin(), labels.end());
    rank_begin_.push_back(labels_.size());
    if (!evaluate_) look_ahead_.Take(part.coming_labels);
  }
  if (absl::Status status = CheckLabelsFit(*store_, labels_.size()); !status.ok()) return status;
  rows_ = DrawStepRows(partitions_, options_.training.sampler, step_, options_.own_shard, options_.shard_count, labels_);
  target_count_ = labels_.size();
  if (options_.training.sampler.kind == SamplerOptions::Kind::kAllSample && phase.phase_count > 1) {
    // Which samples have a target is known to their owners alone; the draw of all shards, a pure function too, tells without asking.
    const StepRows all = DrawStepRows(partitions_, options_.training.sampler, step_, 0, 1, labels_);
    target_count_ = std::count_if(all.target_rows.begin(), all.target_rows.end(), [](int32_t row) { return row >= 0; });
  }
  // The share keeps its copy of the rows from step to step; an evaluation reads them into another one first.
  const int64_t row_count = rows_.class_ids.size();
  const int64_t new_copies = std::max<int64_t>(0, row_count - most_rows_) + (evaluate_ ? row_count : 0);
  const int64_t copy_bytes = new_copies * options_.head.embedding_dim * static_cast<int64_t>(sizeof(float));
  const std::string purpose = absl::StrCat("copies of the ", row_count, " rows of a step");
  if (evaluate_) {
    if (absl::Status status = store_->CheckMemory(copy_bytes, purpose); !status.ok()) return status;
    at::Tensor rows = at::empty({row_count, options_.head.embedding_dim}, at::kFloat);
    if (absl::Status status = store_->Read(rows_.class_ids, rows.mutable_data_ptr<float>(), nullptr, nullptr, nullptr); !status.ok()) {
      return status;
    }
    share_->SetRows(rows);
  } else {
    if (absl::Status status = store_->Pin(step_, rows_.class_ids, &statistics_.rows); !status.ok()) return status;
    if (absl::Status status = MoveIdleRows(options_.training.optimizer, learning_rate_, store_.get()); !status.ok()) return status;
    // After Pin(), which has taken the memory of new rows by now.
    if (absl::Status status = store_->CheckMemory(copy_bytes, purpose); !status.ok()) return status;
    share_->SetRows(store_->pinned_rows());
  }
  most_rows_ = std::max(most_rows_, row_count);
  statistics_.gather_seconds = SecondsSince(start);
  return absl::OkStatus();
}

absl::Status ShardStepWork::TakeChunkLabels(const Phase& phase, std::vector<int32_t>* target_rows) {
  chunk_sizes_.clear();
  for (size_t rank = 0; rank < phase.parts.size(); ++rank) {
    const auto& part = std::get<HeadStepPart>(*phase.parts[rank]);
    const int64_t begin = rank_begin_[rank] + rank_taken_[rank];
    const int64_t left = rank_begin_[rank + 1] - begin;
    const int64_t size = part.labels.size();
    if (part.embeddings.size(0) != size) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": ", part.embeddings.size(0), " embeddings, ", size, " labels"));
    }
    if (size > left || (phase.phase + 1 == phase.phase_count && size < left)) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": chunk ", phase.phase, " of ", phase.phase_count, " has ", size,
                                                     " labels; step_labels has ", left, " left"));
    }
    for (int64_t i = 0; i < size; ++i) {
      if (labels_[begin + i] != part.labels[i]) {
        return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": label ", part.labels[i], " of sample ", i, " of chunk ",
                                                       phase.phase, " is ", labels_[begin + i], " in step_labels"));
      }
    }
    target_rows->insert(target_rows->end(), rows_.target_rows.begin() + begin, rows_.target_rows.begin() + begin + size);
    rank_taken_[rank] += size;
    chunk_sizes_.push_back(size);
  }
  return absl::OkStatus();
}

at::Tensor ShardStepWork::GatherEmbeddings(const Phase& phase) {
  if (phase.parts.size() == 1) return std::get<HeadStepPart>(*phase.parts[0]).embeddings;
  const int64_t dim = options_.head.embedding_dim;
  const int64_t batch = std::accumulate(chunk_sizes_.begin(), chunk_sizes_.end(), int64_t{0});
  if (!gathered_.defined() || gathered_.size(0) < batch) gathered_ = at::empty({batch, dim}, at::kFloat);
  float* out = gathered_.mutable_data_ptr<float>();
  for (const RankPart* part : phase.parts) {
    const at::Tensor rows = std::get<HeadStepPart>(*part).embeddings.contiguous();
    if (rows.numel() > 0) std::memcpy(out, rows.const_data_ptr<float>(), rows.numel() * sizeof(float));
    out += rows.numel();
  }
  return gathered_.narrow(0, 0, batch);
}

absl::Status ShardStepWork::DescribeForwardError(const absl::Status& status, const at::Tensor& embeddings) const {
  if (!absl::IsInvalidArgument(status)) return status;
  int64_t sample = FirstRowNotFinite(embeddings);
  if (sample >= 0) {
    int rank = 0;
    while (sample >= chunk_sizes_[rank]) sample -= chunk_sizes_[rank++];
    return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": the embedding of sample ", sample, " is not finite"));
  }
  if (evaluate_) return status;
  const RowView& rows = store_->pinned_rows();
  std::vector<float> scratch(rows.scratch_floats());
  for (int64_t row = 0; row < rows.count(); ++row) {
    float* const numbers = const_cast<float*>(rows.Weights(row, scratch.data()));
    if (FirstRowNotFinite(at::from_blob(numbers, {1, options_.head.embedding_dim}, at::kFloat)) >= 0) {
      return absl::InvalidArgumentError(absl::StrCat("the center of class ", rows_.class_ids[row], " is not finite"));
    }
  }
  return status;
}

absl::StatusOr<StepWork::Share> ShardStepWork::Compute(const Phase& phase) {
  statistics_ = ChunkStatistics();
  if (phase.phase == 0) {
    if (absl::Status status = BeginStep(phase); !status.ok()) return status;
  }
  const absl::Time start = timer_->Now();
  std::vector<int32_t> target_rows;
  if (absl::Status status = TakeChunkLabels(phase, &target_rows); !status.ok()) return status;
  const at::Tensor embeddings = GatherEmbeddings(phase);
  absl::StatusOr<Denominators> denominators = share_->Forward(embeddings, target_rows);
  if (!denominators.ok()) return DescribeForwardError(denominators.status(), embeddings);
  statistics_.forward_seconds = SecondsSince(start);
  return Share{embeddings.size(0), *std::move(denominators)};
}

absl::StatusOr<std::vector<RankReply>> ShardStepWork::Reply(const std::shared_ptr<const MergedDenominators>& merged, double vote_seconds) {
  merged_.reset();
  const int64_t samples = std::accumulate(chunk_sizes_.begin(), chunk_sizes_.end(), int64_t{0});
  if (static_cast<int64_t>(merged->log_z.size()) != samples) {
    return absl::InternalError(absl::StrCat("the reducer's answer has ", merged->log_z.size(), " samples; the chunk has ", samples));
  }
  merged_ = merged;
  statistics_.sample_count = samples;
  statistics_.target_count = merged->target_count;
  statistics_.target_cosine_sum = merged->target_cosine_sum;
  // With one chunk the reducer's count is the step's.
  const int64_t targets = samples == static_cast<int64_t>(labels_.size()) ? merged->target_count : target_count_;
  statistics_.loss = targets == 0 ? 0.0 : merged->loss_sum / targets;
  statistics_.row_count = rows_.class_ids.size();
  statistics_.degenerate_count = share_->degenerate_row_count() + share_->degenerate_embedding_count();
  statistics_.vote_seconds = vote_seconds;
  statistics_.apply_seconds = apply_seconds_;
  const at::Tensor gradients = share_->EmbeddingGradients(*merged, labels_.size());
  std::vector<RankReply> replies;
  int64_t begin = 0;
  for (int64_t size : chunk_sizes_) {
    replies.push_back(HeadStepReply{gradients.narrow(0, begin, size), statistics_});
    begin += size;
  }
  return replies;
}

absl::Status ShardStepWork::Settle(bool last) {
  const absl::Time start = timer_->Now();
  if (merged_ == nullptr) return absl::InternalError("the reducer's answer does not fit the chunk");
  if (!evaluate_) {
    share_->AccumulateRowGradients(*merged_, labels_.size());
    if (last) {
      share_->Apply(options_.training.optimizer, learning_rate_, store_->pinned_rows());
      store_->Commit();
      RecordPositives(options_, partitions_, step_, labels_);
    }
  }
  merged_.reset();
  apply_seconds_ = SecondsSince(start);
  if (!evaluate_ && last) look_ahead_.Tell();
  return absl::OkStatus();
}

void ShardStepWork::Abandon() {
  if (!evaluate_) store_->Unpin();
  merged_.reset();
}

void ShardStepWork::Release() {
  share_.reset();
  gathered_.reset();
  rows_ = StepRows();
  most_rows_ = 0;
}

}  // namespace myriad
