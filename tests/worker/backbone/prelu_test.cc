#include "worker/backbone/prelu.h"

#include <random>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace myriad {
namespace {

struct Passed {
  at::Tensor y, dx, dweight;
};

// `weight` replaces the module's own; y = prelu(x), and the gradients of sum(y * dy).
template <typename Forward>
Passed Pass(const Forward& forward, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& dy) {
  at::Tensor leaf = x.detach().clone().requires_grad_(true);
  Passed passed;
  passed.y = forward(leaf);
  passed.y.backward(dy);
  passed.dx = leaf.grad();
  passed.dweight = weight.grad();
  return passed;
}

struct Case {
  at::Tensor x, weight, dy;
};

Case RandomCase(std::mt19937* random) {
  const int64_t channels = 1 + (*random)() % 70;
  const std::vector<int64_t> shape = {static_cast<int64_t>(1 + (*random)() % 9), channels, static_cast<int64_t>(1 + (*random)() % 20),
                                      static_cast<int64_t>(1 + (*random)() % 20)};
  Case made{at::randn(shape), at::randn({channels}), at::randn(shape)};
  made.x.flatten()[0] = 0.0;
  made.x.flatten()[made.x.numel() - 1] = -0.0;
  return made;
}

Passed Ours(const Case& given, at::MemoryFormat format) {
  PRelu module(given.weight.numel());
  at::Tensor weight = module->parameters()[0];
  {
    at::NoGradGuard no_grad;
    weight.copy_(given.weight);
  }
  return Pass([&](const at::Tensor& x) { return module(x); }, given.x.contiguous(format), weight, given.dy);
}

TEST(PReluTest, EqualsAtenInEveryLayout) {
  std::mt19937 random(1);
  at::manual_seed(1);
  for (int i = 0; i < 40; ++i) {
    const Case given = RandomCase(&random);
    at::Tensor weight = given.weight.to(at::kDouble).requires_grad_(true);
    const Passed expected = Pass([&](const at::Tensor& x) { return at::prelu(x, weight); }, given.x.to(at::kDouble), weight, given.dy);
    for (const at::MemoryFormat format : {at::MemoryFormat::ChannelsLast, at::MemoryFormat::Contiguous}) {
      const Passed ours = Ours(given, format);
      EXPECT_TRUE(at::allclose(ours.y.to(at::kDouble), expected.y, 1e-6, 1e-7)) << given.x.sizes();
      EXPECT_TRUE(at::allclose(ours.dx.to(at::kDouble), expected.dx, 1e-6, 1e-7)) << given.x.sizes();
      const double scale = expected.dweight.abs().max().item<double>();
      EXPECT_LE((ours.dweight.to(at::kDouble) - expected.dweight).abs().max().item<double>(), 1e-5 * scale) << given.x.sizes();
    }
  }
}

TEST(PReluTest, TheNumberOfThreadsChangesNoBit) {
  at::manual_seed(2);
  const Case given{at::randn({16, 16, 48, 48}), at::randn({16}), at::randn({16, 16, 48, 48})};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Passed one = Ours(given, at::MemoryFormat::ChannelsLast);
  at::set_num_threads(3);
  const Passed three = Ours(given, at::MemoryFormat::ChannelsLast);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.dx, three.dx));
  EXPECT_TRUE(at::equal(one.dweight, three.dweight));
}

TEST(PReluTest, AGradientInAnotherLayoutIsTaken) {
  at::manual_seed(3);
  Case given{at::randn({2, 5, 7, 3}), at::randn({5}), at::randn({2, 5, 7, 3})};
  const Passed plain = Ours(given, at::MemoryFormat::ChannelsLast);
  given.dy = given.dy.transpose(2, 3).contiguous().transpose(2, 3);
  const Passed strided = Ours(given, at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(at::equal(plain.dx, strided.dx));
  EXPECT_TRUE(at::equal(plain.dweight, strided.dweight));
}

}  // namespace
}  // namespace myriad
