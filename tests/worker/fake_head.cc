#include "tests/worker/fake_head.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

namespace myriad {
namespace {

constexpr double kScale = 32.0;
constexpr double kMargin = 0.2;

at::Tensor Normalized(const at::Tensor& rows) { return rows / rows.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12); }

at::Tensor ToTensor(absl::Span<const int64_t> values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

}  // namespace

FakeHead::FakeHead(int64_t class_count, int embedding_dim, uint64_t seed) {
  weights_ = at::empty({class_count, embedding_dim}, at::kFloat);
  weights_.normal_(0.0, 0.01, at::make_generator<at::CPUGeneratorImpl>(seed));
  gradient_ = at::zeros_like(weights_);
}

absl::StatusOr<StepResult> FakeHead::Step(const StepInput& input) {
  if (on_step) on_step(input);
  if (!fail_with.ok()) return fail_with;
  if (input.step != next_step_ || input.chunk != next_chunk_) return absl::FailedPreconditionError("a step or chunk out of order");
  if (input.chunk == 0) step_samples_ = input.chunk_count > 1 ? input.step_labels.size() : input.labels.size();
  StepResult result;
  result.sample_count = input.labels.size();
  result.target_count = result.sample_count;
  result.row_count = weights_.size(0);
  result.degenerate_count = (input.embeddings.norm(2, {1}) < 1e-12).sum().item<int64_t>();
  result.embedding_gradients = at::zeros_like(input.embeddings);
  if (!input.labels.empty()) {
    at::AutoGradMode with_gradients(true);
    const at::Tensor x = input.embeddings.detach().clone().set_requires_grad(true);
    const at::Tensor w = weights_.detach().clone().set_requires_grad(true);
    const at::Tensor labels = ToTensor(input.labels).unsqueeze(1);
    const at::Tensor cosines = at::mm(Normalized(x), Normalized(w).t());
    const at::Tensor logits = (cosines - at::zeros_like(cosines).scatter(1, labels, kMargin)) * kScale;
    const at::Tensor loss = (at::logsumexp(logits, {1}) - logits.gather(1, labels).squeeze(1)).sum() / static_cast<double>(step_samples_);
    loss.backward();
    result.loss = loss.item<double>();
    result.target_cosine_sum = cosines.gather(1, labels).sum().item<double>();
    result.embedding_gradients = x.grad();
    gradient_ += w.grad();
  }
  if (++next_chunk_ == input.chunk_count) {
    next_chunk_ = 0;
    ++next_step_;
    learning_rates_.push_back(input.learning_rate);
    at::NoGradGuard no_grad;
    weights_ -= gradient_ * input.learning_rate;
    gradient_.zero_();
  }
  return result;
}

absl::StatusOr<at::Tensor> FakeHead::FetchCenters(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) {
  if (exists != nullptr) exists->assign(class_ids.size(), true);
  return weights_.index_select(0, ToTensor(class_ids));
}

absl::Status FakeHead::ReadRows(bool, const RowVisitor& visitor) {
  std::vector<int64_t> ids(weights_.size(0));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  RowBatch batch;
  batch.class_ids = ids;
  batch.weights = weights_;
  batch.slots = at::zeros_like(weights_);
  batch.committed_steps = next_step_;
  batch.shard_row_count = weights_.size(0);
  return visitor(batch);
}

absl::Status FakeHead::WriteRows(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor&) {
  weights_.index_copy_(0, ToTensor(class_ids), weights);
  return absl::OkStatus();
}

}  // namespace myriad
