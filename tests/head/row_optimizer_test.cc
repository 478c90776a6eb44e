#include "head/row_optimizer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

constexpr double kDecay = 0.03;

struct Case {
  std::string name;
  OptimizerOptions options;
  std::function<std::unique_ptr<torch::optim::Optimizer>(const torch::Tensor& row, double rate)> make;
};

// 60 steps with rates that change, against the optimizer of that name in LibTorch, in float64.
TEST(RowOptimizerTest, MovesAsTorchOptimDoes) {
  const std::vector<Case> cases = {
      {"SGD",
       {OptimizerKind::kSgd, /*momentum=*/0.9, kDecay},
       [](const torch::Tensor& row, double rate) {
         return std::make_unique<torch::optim::SGD>(std::vector<torch::Tensor>{row},
                                                    torch::optim::SGDOptions(rate).momentum(0.9).weight_decay(kDecay));
       }},
      {"AdamW",
       {OptimizerKind::kAdamW, 0.0, kDecay, false, 1.0, /*beta1=*/0.85, /*beta2=*/0.97, /*epsilon=*/1e-8},
       [](const torch::Tensor& row, double rate) {
         return std::make_unique<torch::optim::AdamW>(std::vector<torch::Tensor>{row},
                                                      torch::optim::AdamWOptions(rate).betas({0.85, 0.97}).eps(1e-8).weight_decay(kDecay));
       }},
      {"Adagrad",
       {OptimizerKind::kAdagrad, 0.0, kDecay, false, 1.0, 0.0, 0.0, /*epsilon=*/1e-10},
       [](const torch::Tensor& row, double rate) {
         return std::make_unique<torch::optim::Adagrad>(std::vector<torch::Tensor>{row},
                                                        torch::optim::AdagradOptions(rate).eps(1e-10).weight_decay(kDecay));
       }},
  };
  for (const Case& c : cases) {
    for (int dim : {1, 7, 16, 129, 512}) {
      SCOPED_TRACE(absl::StrCat(c.name, ", dim ", dim));
      std::mt19937 rng(dim);
      std::normal_distribution<float> normal;
      HeadSpec head;
      head.embedding_dim = dim;
      head.slots = c.options.kind;
      std::vector<float> weights(dim), slots(SlotNumbers(head), 0.0f), gradient(dim);
      for (float& w : weights) w = normal(rng);
      const torch::Tensor row = torch::from_blob(weights.data(), {dim}).to(torch::kDouble).requires_grad_();
      const std::unique_ptr<torch::optim::Optimizer> optimizer = c.make(row, 0.1);
      for (int step = 0; step < 60; ++step) {
        const double rate = 0.05 / (1.0 + step);
        for (float& g : gradient) g = normal(rng);
        row.mutable_grad() = torch::from_blob(gradient.data(), {dim}).to(torch::kDouble);
        for (auto& group : optimizer->param_groups()) group.options().set_lr(rate);
        optimizer->step();
        std::visit([&](const auto& s) { UpdateRow(s, gradient.data(), dim, weights.data(), slots.data()); },
                   MakeOptimizerStep(c.options, rate));
        for (int d = 0; d < dim; ++d) ASSERT_NEAR(weights[d], row[d].item<double>(), 2e-6 * (1.0 + step / 10.0)) << "step " << step;
      }
    }
  }
}

TEST(RowOptimizerTest, TheFusedPassIsProjectionThenUpdate) {
  std::mt19937 rng(4);
  std::normal_distribution<float> normal;
  for (OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdamW, OptimizerKind::kAdagrad}) {
    OptimizerOptions options;
    options.kind = kind;
    options.epsilon = 0.1;
    for (int dim : {1, 2, 7, 15, 16, 17, 63, 128, 511, 512, 513}) {
      SCOPED_TRACE(absl::StrCat("optimizer ", static_cast<int>(kind), ", dim ", dim));
      HeadSpec head;
      head.embedding_dim = dim;
      head.slots = kind;
      std::vector<float> weights(dim), slots(SlotNumbers(head)), gradient(dim), unit(dim);
      for (float& w : weights) w = normal(rng) * 0.5f;
      for (float& s : slots) s = std::abs(normal(rng)) * 0.1f;
      if (kind == OptimizerKind::kAdamW) slots[2 * dim] = 4.0f;
      for (float& g : gradient) g = normal(rng);
      std::vector<float> projected = gradient, plain_weights = weights, plain_slots = slots;
      const NormalizedRow normalized = NormalizeRow(weights.data(), dim, unit.data());
      ProjectRow(unit.data(), normalized.inverse_norm, dim, projected.data());
      std::visit(
          [&](const auto& step) {
            UpdateRow(step, projected.data(), dim, plain_weights.data(), plain_slots.data());
            ProjectAndUpdateRow(step, gradient.data(), normalized.inverse_norm, dim, weights.data(), slots.data());
          },
          MakeOptimizerStep(options, 0.1));
      const float tolerance = 5e-6f * (1.0f + normalized.inverse_norm);
      for (int d = 0; d < dim; ++d) ASSERT_NEAR(weights[d], plain_weights[d], tolerance);
      for (size_t i = 0; i < slots.size(); ++i) ASSERT_NEAR(slots[i], plain_slots[i], tolerance * (1.0f + std::abs(plain_slots[i])));
    }
  }
}

// A degenerate row's gradient is 0, but momentum and decay go on.
TEST(RowOptimizerTest, DegenerateRowsStillDecay) {
  std::vector<float> weights(8, 1e-14f), momentum(8, 1.0f);
  const std::vector<float> gradient(8, 3.0f);
  ProjectAndUpdateRow(MakeSgdStep(OptimizerOptions(), 0.1), gradient.data(), 0.0f, 8, weights.data(), momentum.data());
  EXPECT_FLOAT_EQ(momentum[0], 0.9f);
  EXPECT_FLOAT_EQ(weights[0], -0.09f);
}

}  // namespace
}  // namespace myriad
