#include "worker/sgd.h"

#include <cmath>
#include <limits>
#include <random>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace myriad {
namespace {

at::Tensor RandomParameter(at::IntArrayRef shape, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal;
  at::Tensor tensor = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < tensor.numel(); ++i) tensor.mutable_data_ptr<float>()[i] = normal(rng);
  return tensor.set_requires_grad(true);
}

void SetGradient(const at::Tensor& parameter, const at::Tensor& gradient) { parameter.mutable_grad() = gradient; }

// Against the formula written out in float64, over several steps with changing rates. One parameter has its channels last in memory, and
// gradients that do not.
TEST(BackboneSgdTest, FollowsThePlainFormula) {
  for (double momentum : {0.0, 0.9}) {
    std::vector<at::Tensor> parameters = {RandomParameter({3, 5}, 1), RandomParameter({7}, 2), RandomParameter({4, 3, 3, 3}, 3)};
    parameters[2].set_data(parameters[2].detach().contiguous(at::MemoryFormat::ChannelsLast));
    std::vector<std::vector<double>> expected;
    std::vector<std::vector<double>> velocity;
    for (const at::Tensor& parameter : parameters) {
      const at::Tensor flat = parameter.detach().contiguous();
      expected.emplace_back(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel());
      velocity.emplace_back(flat.numel(), 0.0);
    }
    auto sgd = BackboneSgd::Create({momentum, 0.01}, parameters);
    ASSERT_TRUE(sgd.ok());
    for (int step = 0; step < 5; ++step) {
      const double rate = 0.1 / (step + 1);
      for (size_t p = 0; p < parameters.size(); ++p) {
        const at::Tensor gradient = RandomParameter(parameters[p].sizes(), 100 * step + p).detach();
        SetGradient(parameters[p], gradient.clone());
        for (size_t i = 0; i < expected[p].size(); ++i) {
          velocity[p][i] = momentum * velocity[p][i] + gradient.const_data_ptr<float>()[i] + 0.01 * expected[p][i];
          expected[p][i] -= rate * velocity[p][i];
        }
      }
      const absl::Status status = sgd->Step(rate);
      ASSERT_TRUE(status.ok()) << status << " with momentum " << momentum;
      for (size_t p = 0; p < parameters.size(); ++p) {
        const at::Tensor flat = parameters[p].detach().contiguous();
        for (size_t i = 0; i < expected[p].size(); ++i) EXPECT_NEAR(flat.const_data_ptr<float>()[i], expected[p][i], 1e-5);
      }
    }
  }
}

// An optimizer that takes over parameters and momenta after three steps moves on as the one that it stands in for.
TEST(BackboneSgdTest, MomentaCarriedOverGoOnBitForBit) {
  for (double momentum : {0.0, 0.9}) {
    std::vector<at::Tensor> parameters = {RandomParameter({3, 5}, 1), RandomParameter({4, 3, 3, 3}, 2)};
    parameters[1].set_data(parameters[1].detach().contiguous(at::MemoryFormat::ChannelsLast));
    std::vector<at::Tensor> others;
    for (const at::Tensor& parameter : parameters) others.push_back(at::zeros_like(parameter).set_requires_grad(true));
    auto first = BackboneSgd::Create({momentum, 0.01}, parameters);
    auto second = BackboneSgd::Create({momentum, 0.01}, others);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_TRUE(first->momenta().empty());
    const auto step = [](BackboneSgd* sgd, const std::vector<at::Tensor>& moved, int number) {
      for (size_t p = 0; p < moved.size(); ++p) SetGradient(moved[p], RandomParameter(moved[p].sizes(), 10 * number + p).detach());
      ASSERT_TRUE(sgd->Step(0.1).ok());
    };
    for (int number = 0; number < 3; ++number) step(&*first, parameters, number);
    ASSERT_TRUE(second->MakeMomenta().ok());
    ASSERT_EQ(second->momenta().size(), first->momenta().size());
    EXPECT_EQ(first->momenta().empty(), momentum == 0.0);
    for (size_t p = 0; p < parameters.size(); ++p) others[p].detach().copy_(parameters[p].detach());
    for (size_t p = 0; p < first->momenta().size(); ++p) {
      EXPECT_EQ(second->momenta()[p].strides(), others[p].strides());
      at::Tensor(second->momenta()[p]).copy_(first->momenta()[p]);
    }
    for (int number = 3; number < 5; ++number) {
      step(&*first, parameters, number);
      step(&*second, others, number);
    }
    for (size_t p = 0; p < parameters.size(); ++p) EXPECT_TRUE(at::equal(parameters[p], others[p]));
  }
}

TEST(BackboneSgdTest, OptionsOutOfRangeAreRefusedByName) {
  EXPECT_NE(BackboneSgd::Create({1.0, 0.0}, {}).status().message().find("momentum"), std::string::npos);
  EXPECT_NE(BackboneSgd::Create({0.9, -1.0}, {}).status().message().find("weight_decay"), std::string::npos);
}

TEST(BackboneSgdTest, AParameterWithoutAGradientIsAnError) {
  auto sgd = BackboneSgd::Create({}, {RandomParameter({2}, 1)});
  ASSERT_TRUE(sgd.ok());
  EXPECT_FALSE(sgd->Step(0.1).ok());
}

TEST(ClipGradientsTest, ScalesToTheNormOverAllParametersAndLeavesSmallOnesAlone) {
  std::vector<at::Tensor> parameters = {RandomParameter({2}, 1), RandomParameter({1, 2}, 2)};
  SetGradient(parameters[0], at::full({2}, 3.0f));
  SetGradient(parameters[1], at::full({1, 2}, 4.0f));
  const double whole = std::sqrt(2 * 9.0 + 2 * 16.0);

  auto norm = ClipGradients(parameters, 100.0);
  ASSERT_TRUE(norm.ok());
  EXPECT_NEAR(*norm, whole, 1e-5);
  EXPECT_EQ(parameters[0].grad()[0].item<float>(), 3.0f);

  norm = ClipGradients(parameters, 1.0);
  ASSERT_TRUE(norm.ok());
  EXPECT_NEAR(*norm, whole, 1e-5);
  EXPECT_NEAR(parameters[0].grad()[1].item<float>(), 3.0 / whole, 1e-6);
  EXPECT_NEAR(parameters[1].grad()[0][1].item<float>(), 4.0 / whole, 1e-6);
  EXPECT_NEAR(*ClipGradients(parameters, std::numeric_limits<double>::infinity()), 1.0, 1e-6);
}

TEST(ClipGradientsTest, ANormThatIsNotFiniteIsRefusedAndNothingChanges) {
  std::vector<at::Tensor> parameters = {RandomParameter({2}, 1), RandomParameter({2}, 2)};
  SetGradient(parameters[0], at::full({2}, std::numeric_limits<float>::quiet_NaN()));
  SetGradient(parameters[1], at::full({2}, 5.0f));
  EXPECT_TRUE(absl::IsInvalidArgument(ClipGradients(parameters, 1.0).status()));
  EXPECT_EQ(parameters[1].grad()[0].item<float>(), 5.0f);
}

}  // namespace
}  // namespace myriad
