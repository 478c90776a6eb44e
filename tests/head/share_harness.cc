#include "tests/head/share_harness.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "head/float_row_view.h"
#include "tests/testing/float_row_editor.h"

namespace myriad {

std::vector<float> RandomNormal(std::mt19937& rng, int64_t n, double deviation) {
  std::normal_distribution<float> normal(0.0f, static_cast<float>(deviation));
  std::vector<float> values(n);
  for (float& value : values) value = normal(rng);
  return values;
}

ShareHarness::ShareHarness(const SoftmaxShare::Options& options, const OptimizerOptions& sgd, const std::vector<int>& share_of_class,
                           int share_count, uint32_t seed)
    : options_(options), sgd_(sgd), share_of_class_(share_of_class) {
  std::mt19937 rng(seed);
  for (int k = 0; k < share_count; ++k) shares_.push_back(std::make_unique<SoftmaxShare>(options));
  for (size_t c = 0; c < share_of_class.size(); ++c) {
    weights_.push_back(RandomNormal(rng, options.embedding_dim, 0.01));
    momentum_.emplace_back(options.embedding_dim, 0.0f);
  }
}

ShareHarness::Outcome ShareHarness::Step(absl::Span<const int64_t> class_ids, absl::Span<const float> embeddings,
                                         absl::Span<const int64_t> labels, absl::Span<const int64_t> chunk_ends, double learning_rate) {
  const int64_t dim = options_.embedding_dim;
  const int64_t batch = static_cast<int64_t>(labels.size());
  std::vector<std::vector<int64_t>> rows(shares_.size());
  for (int64_t class_id : class_ids) rows[share_of_class_[class_id]].push_back(class_id);
  for (size_t k = 0; k < shares_.size(); ++k) {
    std::vector<const float*> pointers;
    for (int64_t class_id : rows[k]) pointers.push_back(weights_[class_id].data());
    shares_[k]->SetRows(FloatRowView(options_.embedding_dim, pointers));
  }
  Outcome outcome;
  int64_t begin = 0;
  for (int64_t end : chunk_ends) {
    const at::Tensor x = at::from_blob(const_cast<float*>(embeddings.data()) + begin * dim, {end - begin, dim}, at::kFloat);
    std::vector<Denominators> shares;
    for (size_t k = 0; k < shares_.size(); ++k) {
      std::vector<int32_t> target_rows;
      for (int64_t i = begin; i < end; ++i) {
        const auto found = std::find(rows[k].begin(), rows[k].end(), labels[i]);
        target_rows.push_back(found == rows[k].end() ? -1 : static_cast<int32_t>(found - rows[k].begin()));
      }
      absl::StatusOr<Denominators> share = shares_[k]->Forward(x, target_rows);
      EXPECT_TRUE(share.ok()) << share.status();
      if (!share.ok()) return outcome;
      shares.push_back(*std::move(share));
    }
    absl::StatusOr<MergedDenominators> merged = MergeShares(shares, end - begin);
    EXPECT_TRUE(merged.ok()) << merged.status();
    if (!merged.ok()) return outcome;
    at::Tensor gradients = at::zeros({end - begin, dim});
    for (auto& share : shares_) {
      gradients.add_(share->EmbeddingGradients(*merged, batch));
      share->AccumulateRowGradients(*merged, batch);
    }
    outcome.embedding_gradients.insert(outcome.embedding_gradients.end(), gradients.const_data_ptr<float>(),
                                       gradients.const_data_ptr<float>() + gradients.numel());
    outcome.merged.loss_sum += merged->loss_sum;
    outcome.merged.target_count += merged->target_count;
    outcome.merged.target_cosine_sum += merged->target_cosine_sum;
    outcome.merged.log_z.insert(outcome.merged.log_z.end(), merged->log_z.begin(), merged->log_z.end());
    begin = end;
  }
  for (size_t k = 0; k < shares_.size(); ++k) {
    std::vector<float*> weights, momentum;
    for (int64_t class_id : rows[k]) {
      weights.push_back(weights_[class_id].data());
      momentum.push_back(momentum_[class_id].data());
    }
    FloatRowEditor editor(options_.embedding_dim, weights, momentum);
    shares_[k]->Apply(sgd_, learning_rate, editor);
  }
  if (outcome.merged.target_count > 0) outcome.loss = outcome.merged.loss_sum / static_cast<double>(outcome.merged.target_count);
  return outcome;
}

}  // namespace myriad
