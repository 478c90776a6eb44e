#include "server/step/worker_step_work.h"

#include <cstring>
#include <variant>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "head/row_optimizer.h"
#include "server/step/step_inputs.h"

namespace myriad {
namespace {

constexpr int64_t kRowGrain = 64;

}  // namespace

WorkerStepWork::WorkerStepWork(const StepWorkOptions& options, std::shared_ptr<RowStore> store)
    : options_(options),
      store_(std::move(store)),
      partitions_(options.head.class_count, options.head.seed, options.head.partition_count),
      look_ahead_(partitions_, options.training.sampler, options.own_shard, options.shard_count, store_) {}

std::pair<int64_t, int64_t> WorkerStepWork::Slice(int rank) const {
  const int64_t n = rows_.class_ids.size();
  return {n * rank / rank_count_, n * (rank + 1) / rank_count_};
}

absl::Status WorkerStepWork::Fetch(const Phase& phase) {
  step_ = phase.step;
  learning_rate_ = phase.learning_rate;
  rank_count_ = phase.parts.size();
  std::vector<int64_t> all;
  std::vector<int32_t> sizes;
  look_ahead_.Begin(step_);
  for (int rank = 0; rank < rank_count_; ++rank) {
    const auto& [labels, coming_labels] = std::get<FetchPart>(*phase.parts[rank]);
    if (absl::Status status = CheckLabels(labels, options_.head.class_count, rank); !status.ok()) return status;
    all.insert(all.end(), labels.begin(), labels.end());
    sizes.push_back(labels.size());
    look_ahead_.Take(coming_labels);
  }
  if (absl::Status status = CheckLabelsFit(*store_, all.size()); !status.ok()) return status;
  rows_ = DrawStepRows(partitions_, options_.training.sampler, step_, options_.own_shard, options_.shard_count, all);
  labels_ = std::make_shared<const std::vector<int64_t>>(std::move(all));
  rank_sizes_ = std::make_shared<const std::vector<int32_t>>(std::move(sizes));
  stage_ = Stage::kFetched;
  RowStore::PinFigures figures;
  if (absl::Status status = store_->Pin(step_, rows_.class_ids, &figures); !status.ok()) return status;
  if (absl::Status status = MoveIdleRows(options_.training.optimizer, learning_rate_, store_.get()); !status.ok()) return status;
  scratch_.resize(at::get_num_threads() * store_->pinned_rows().scratch_floats());
  // After Pin(), which has taken the memory of new rows by now.
  const int64_t row_count = rows_.class_ids.size();
  return store_->CheckMemory(kCopiesOfRows * row_count * options_.head.embedding_dim * static_cast<int64_t>(sizeof(float)),
                             absl::StrCat("copies of the ", row_count, " rows of a step"));
}

absl::Status WorkerStepWork::Merge(const Phase& phase) {
  std::vector<Denominators> shares;
  for (int rank = 0; rank < rank_count_; ++rank) {
    const Denominators& share = std::get<MergePart>(*phase.parts[rank]).denominators;
    if (share.max_logit.size() != labels_->size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", rank, ": denominators of ", share.max_logit.size(), " samples; the step has ", labels_->size()));
    }
    shares.push_back(share);
  }
  absl::StatusOr<MergedDenominators> merged = MergeShares(shares, labels_->size());
  if (!merged.ok()) return merged.status();
  merged_ = std::make_shared<const MergedDenominators>(*std::move(merged));
  stage_ = Stage::kMerged;
  return absl::OkStatus();
}

absl::Status WorkerStepWork::TakeGradients(const Phase& phase) {
  const int64_t n = rows_.class_ids.size();
  const int64_t dim = options_.head.embedding_dim;
  if (!gradients_.defined() || gradients_.size(0) < n) {
    gradients_.reset();
    gradients_ = at::empty({n + n / 8, dim}, at::kFloat);
  }
  for (int rank = 0; rank < rank_count_; ++rank) {
    const ApplyPart& part = std::get<ApplyPart>(*phase.parts[rank]);
    const auto [begin, end] = Slice(rank);
    if (static_cast<int64_t>(part.class_ids.size()) != end - begin || part.gradients.size(0) != end - begin) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": ", part.class_ids.size(), " class ids and ", part.gradients.size(0),
                                                     " gradients; its slice of step ", step_, " has ", end - begin, " rows"));
    }
    for (int64_t row = begin; row < end; ++row) {
      if (part.class_ids[row - begin] == rows_.class_ids[row]) continue;
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": class ", part.class_ids[row - begin], " at place ", row - begin,
                                                     " of its slice of step ", step_, ", where class ", rows_.class_ids[row], " was sent"));
    }
    const at::Tensor gradients = part.gradients.contiguous();
    if (const int64_t row = FirstRowNotFinite(gradients); row >= 0) {
      return absl::InvalidArgumentError(absl::StrCat("rank ", rank, ": the gradient of class ", part.class_ids[row], " is not finite"));
    }
    if (end > begin) {
      std::memcpy(gradients_.mutable_data_ptr<float>() + begin * dim, gradients.const_data_ptr<float>(),
                  (end - begin) * dim * sizeof(float));
    }
  }
  stage_ = Stage::kReadyToApply;
  return absl::OkStatus();
}

absl::StatusOr<StepWork::Share> WorkerStepWork::Compute(const Phase& phase) {
  const WorkerPhases phases(phase.step, options_.own_shard, options_.shard_count);
  const absl::Status status = phase.phase == WorkerPhases::kFetch ? Fetch(phase)
                              : phase.phase == phases.apply       ? TakeGradients(phase)
                                                                  : Merge(phase);
  if (!status.ok()) return status;
  return Share();
}

float* WorkerStepWork::Scratch() { return scratch_.data() + at::get_thread_num() * store_->pinned_rows().scratch_floats(); }

std::vector<RankReply> WorkerStepWork::FetchReplies() {
  const int64_t dim = options_.head.embedding_dim;
  const RowView& rows = store_->pinned_rows();
  std::vector<RankReply> replies;
  for (int rank = 0; rank < rank_count_; ++rank) {
    const auto [begin, end] = Slice(rank);
    FetchReply reply;
    reply.class_ids.assign(rows_.class_ids.begin() + begin, rows_.class_ids.begin() + end);
    reply.centers = at::empty({end - begin, dim}, at::kFloat);
    float* out = reply.centers.mutable_data_ptr<float>();
    at::parallel_for(begin, end, kRowGrain, [&, begin = begin](int64_t first, int64_t last) {
      float* const scratch = Scratch();
      for (int64_t row = first; row < last; ++row) {
        std::memcpy(out + (row - begin) * dim, rows.Weights(row, scratch), dim * sizeof(float));
      }
    });
    reply.all_labels = labels_;
    reply.rank_sizes = rank_sizes_;
    replies.push_back(std::move(reply));
  }
  return replies;
}

void WorkerStepWork::Apply() {
  const int64_t dim = options_.head.embedding_dim;
  const float* gradients = gradients_.const_data_ptr<float>();
  RowEditor& rows = store_->pinned_rows();
  std::visit(
      [&](const auto& step) {
        at::parallel_for(0, rows_.class_ids.size(), kRowGrain, [&](int64_t first, int64_t last) {
          float* const scratch = Scratch();
          for (int64_t row = first; row < last; ++row) {
            rows.Change(row, scratch, [&](float* weights, float* slots) { UpdateRow(step, gradients + row * dim, dim, weights, slots); });
          }
        });
      },
      MakeOptimizerStep(options_.training.optimizer, learning_rate_));
  store_->Commit();
  RecordPositives(options_, partitions_, step_, *labels_);
}

absl::StatusOr<std::vector<RankReply>> WorkerStepWork::Reply(const std::shared_ptr<const MergedDenominators>&, double) {
  switch (stage_) {
    case Stage::kFetched: return FetchReplies();
    case Stage::kMerged: return std::vector<RankReply>(rank_count_, MergeReply{merged_});
    default: break;
  }
  stage_ = Stage::kApplying;
  Apply();
  stage_ = Stage::kApplied;
  return std::vector<RankReply>(rank_count_, ApplyReply{static_cast<int64_t>(rows_.class_ids.size())});
}

absl::Status WorkerStepWork::Settle(bool last) {
  if (!last) return absl::OkStatus();
  if (stage_ != Stage::kApplied) return absl::InternalError("the optimizer did not come to its end");
  look_ahead_.Tell();
  return absl::OkStatus();
}

void WorkerStepWork::Abandon() {
  store_->Unpin();
  merged_.reset();
}

void WorkerStepWork::Release() {
  gradients_.reset();
  scratch_ = {};
  rows_ = StepRows();
  labels_.reset();
}

}  // namespace myriad
