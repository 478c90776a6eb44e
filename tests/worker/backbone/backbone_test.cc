#include "worker/backbone/backbone.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace myriad {
namespace {

BackboneSpec IResNet(int depth) {
  BackboneSpec spec;
  spec.network = BackboneSpec::Network::kIResNet;
  spec.depth = depth;
  spec.embedding_dim = 512;
  spec.image_size = 112;
  spec.channels = 3;
  return spec;
}

int64_t ParameterCount(const Backbone& backbone) {
  int64_t count = 0;
  for (const NamedTensor& parameter : backbone.Parameters()) count += parameter.tensor.numel();
  return count;
}

at::Tensor Images(const BackboneSpec& spec, int64_t count) {
  at::Tensor images = at::empty({count, spec.channels, spec.image_size, spec.image_size}, at::kFloat);
  float* data = images.mutable_data_ptr<float>();
  for (int64_t i = 0; i < images.numel(); ++i) data[i] = static_cast<float>((i * 2654435761u) % 1000) / 500.0f - 1.0f;
  return images;
}

TEST(BackboneTest, TheSmallNetworkHasAboutFourHundredThousandParametersAndAnyOddSide) {
  for (const auto& [size, channels] : {std::pair<int, int>{48, 1}, {32, 3}, {64, 1}, {37, 3}}) {
    BackboneSpec spec;
    spec.image_size = size;
    spec.channels = channels;
    auto backbone = MakeBackbone(spec, 1);
    ASSERT_TRUE(backbone.ok()) << backbone.status();
    auto embeddings = (*backbone)->Forward(Images(spec, 4));
    ASSERT_TRUE(embeddings.ok()) << embeddings.status();
    EXPECT_EQ(embeddings->sizes(), at::IntArrayRef({4, 128}));
    EXPECT_EQ(embeddings->scalar_type(), at::kFloat);
    if (size == 48) {
      EXPECT_GT(ParameterCount(**backbone), 350000);
      EXPECT_LT(ParameterCount(**backbone), 500000);
    }
  }
}

// Sizes of the usual Python iResNet at 112 x 112 with 512 features; features.weight, which does not train, is not counted.
TEST(BackboneTest, IResNetsHaveTheKnownNumberOfParameters) {
  const std::map<int, int64_t> expected = {{18, 24025600}, {34, 34139328}, {50, 43590848}, {100, 65156160}};
  for (const auto& [depth, count] : expected) {
    auto backbone = MakeBackbone(IResNet(depth), 1);
    ASSERT_TRUE(backbone.ok()) << backbone.status();
    EXPECT_EQ(ParameterCount(**backbone), count - 512) << "depth " << depth;
  }
}

TEST(BackboneTest, IResNetNamesAndShapesAreThoseOfThePythonStateDict) {
  auto backbone = MakeBackbone(IResNet(18), 1);
  ASSERT_TRUE(backbone.ok());
  std::vector<std::string> names;
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const NamedTensor& entry : (*backbone)->State()) {
    names.push_back(entry.name);
    shapes[entry.name] = entry.tensor.sizes().vec();
  }
  const std::vector<std::string> head(names.begin(), names.begin() + 12);
  EXPECT_EQ(head, (std::vector<std::string>{"conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                                            "bn1.num_batches_tracked", "prelu.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias",
                                            "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var", "layer1.0.bn1.num_batches_tracked"}));
  EXPECT_EQ(shapes["conv1.weight"], (std::vector<int64_t>{64, 3, 3, 3}));
  EXPECT_EQ(shapes["layer1.0.downsample.0.weight"], (std::vector<int64_t>{64, 64, 1, 1}));
  EXPECT_EQ(shapes["layer4.1.conv2.weight"], (std::vector<int64_t>{512, 512, 3, 3}));
  EXPECT_EQ(shapes.count("layer4.1.downsample.0.weight"), 0u);
  EXPECT_EQ(shapes["fc.weight"], (std::vector<int64_t>{512, 25088}));
  EXPECT_EQ(shapes["bn2.weight"], (std::vector<int64_t>{512}));
  EXPECT_EQ(shapes["features.weight"], (std::vector<int64_t>{512}));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
}

TEST(BackboneTest, TheScaleOfTheLastNormIsOneAndDoesNotTrain) {
  for (const BackboneSpec& spec : {BackboneSpec(), IResNet(18)}) {
    auto backbone = MakeBackbone(spec, 1);
    ASSERT_TRUE(backbone.ok());
    for (const NamedTensor& parameter : (*backbone)->Parameters()) EXPECT_NE(parameter.name, "features.weight");
    bool found = false;
    for (const NamedTensor& entry : (*backbone)->State()) {
      if (entry.name != "features.weight") continue;
      found = true;
      EXPECT_TRUE(at::equal(entry.tensor, at::ones_like(entry.tensor)));
    }
    EXPECT_TRUE(found);
  }
}

TEST(BackboneTest, WeightsAndEmbeddingsFollowFromTheSeedAlone) {
  const BackboneSpec spec;
  auto a = MakeBackbone(spec, 7);
  at::rand({100});  // The process's own generator plays no part.
  auto b = MakeBackbone(spec, 7);
  auto c = MakeBackbone(spec, 8);
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  const at::Tensor images = Images(spec, 6);
  const at::Tensor x = *(*a)->Forward(images);
  EXPECT_TRUE(at::equal(x, *(*b)->Forward(images)));
  EXPECT_FALSE(at::equal(x, *(*c)->Forward(images)));
}

// Gradient buckets are views in the parameters' layout: a gradient of another layout would be copied in every step.
TEST(BackboneTest, GradientsLieInMemoryAsTheirParametersDo) {
  const BackboneSpec spec;
  auto backbone = MakeBackbone(spec, 7);
  ASSERT_TRUE(backbone.ok());
  const at::Tensor embeddings = *(*backbone)->Forward(Images(spec, 6));
  embeddings.backward(at::ones_like(embeddings));
  for (const NamedTensor& parameter : (*backbone)->Parameters()) {
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    EXPECT_EQ(parameter.tensor.grad().strides(), parameter.tensor.strides()) << parameter.name;
  }
}

// ATen's own convolutions know nothing of oneDNN's, whose choice follows the processor and the number of channels.
TEST(BackboneTest, NarrowNetworksHaveTheGradientsOfPlainConvolutions) {
  for (const int width : {4, 5, 6, 8}) {
    SCOPED_TRACE(width);
    BackboneSpec spec;
    spec.width = width;
    spec.image_size = 24;
    std::vector<at::Tensor> gradients[2];
    for (const bool plain : {false, true}) {
      at::globalContext().setUserEnabledMkldnn(!plain);
      auto backbone = MakeBackbone(spec, 7);
      ASSERT_TRUE(backbone.ok());
      const at::Tensor embeddings = *(*backbone)->Forward(Images(spec, 24));
      embeddings.backward(at::sin(at::arange(embeddings.numel(), at::kFloat)).view(embeddings.sizes()));
      for (const NamedTensor& parameter : (*backbone)->Parameters()) gradients[plain].push_back(parameter.tensor.grad());
    }
    at::globalContext().setUserEnabledMkldnn(true);
    double largest = 0.0, largest_difference = 0.0;
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      if (!gradients[1][i].defined()) continue;  // The scale of the last norm does not train.
      largest = std::max(largest, gradients[1][i].abs().max().item().toDouble());
      largest_difference = std::max(largest_difference, at::sub(gradients[0][i], gradients[1][i]).abs().max().item().toDouble());
    }
    EXPECT_GT(largest, 0.1);
    EXPECT_LE(largest_difference, 1e-3 * largest);
  }
}

TEST(BackboneTest, EvaluationModeLooksAtEachImageAlone) {
  const BackboneSpec spec;
  auto backbone = MakeBackbone(spec, 7);
  ASSERT_TRUE(backbone.ok());
  const at::Tensor images = Images(spec, 6);
  ASSERT_TRUE((*backbone)->Forward(images).ok());
  (*backbone)->SetTraining(false);
  const at::Tensor together = *(*backbone)->Forward(images);
  const at::Tensor alone = *(*backbone)->Forward(images.narrow(0, 3, 1));
  EXPECT_TRUE(at::allclose(together.narrow(0, 3, 1), alone, 1e-4, 1e-5));
}

TEST(BackboneTest, WhatIsOutOfRangeIsRefusedByName) {
  struct Case {
    const char* field;
    void (*change)(BackboneSpec*);
  };
  const Case cases[] = {
      {"embedding_dim", [](BackboneSpec* s) { s->embedding_dim = 0; }},
      {"image_size", [](BackboneSpec* s) { s->image_size = 15; }},
      {"channels", [](BackboneSpec* s) { s->channels = 2; }},
      {"small_resnet.width", [](BackboneSpec* s) { s->width = 3; }},
      {"iresnet.depth", [](BackboneSpec* s) { s->network = BackboneSpec::Network::kIResNet, s->depth = 20; }},
      {"iresnet.dropout", [](BackboneSpec* s) { s->network = BackboneSpec::Network::kIResNet, s->dropout = 1.0; }},
  };
  for (const Case& c : cases) {
    BackboneSpec spec;
    c.change(&spec);
    const absl::Status status = MakeBackbone(spec, 1).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_NE(status.message().find(c.field), std::string::npos) << status;
  }
  const BackboneSpec spec;
  auto backbone = MakeBackbone(spec, 1);
  ASSERT_TRUE(backbone.ok());
  EXPECT_TRUE(absl::IsInvalidArgument((*backbone)->Forward(at::zeros({2, 3, 48, 48})).status()));
  EXPECT_TRUE(absl::IsInvalidArgument((*backbone)->Forward(at::zeros({2, 1, 48, 40})).status()));
  EXPECT_TRUE(absl::IsInvalidArgument((*backbone)->Forward(at::zeros({1, 1, 48, 48})).status()));
}

}  // namespace
}  // namespace myriad
