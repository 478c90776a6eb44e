#include "head/given_row.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

constexpr int kDim = 4;

HeadSpec Spec(DataType weights, DataType slots, OptimizerKind kind) {
  HeadSpec spec;
  spec.name = "faces";
  spec.class_count = 10;
  spec.embedding_dim = kDim;
  spec.weight_dtype = weights;
  spec.slot_dtype = slots;
  spec.slots = kind;
  return spec;
}

// An ordinary row with one number that is not.
struct Case {
  HeadSpec spec;
  bool in_slots;
  int number;
  float value;
  std::string message;  // Empty: it is taken.
};

TEST(GivenRowTest, WhatTheTypesHoldIsTakenAndAllElseNamed) {
  constexpr DataType f32 = DataType::kFloat32, bf16 = DataType::kBFloat16, f16 = DataType::kFloat16;
  const HeadSpec sgd = Spec(f32, f32, OptimizerKind::kSgd), half = Spec(f16, bf16, OptimizerKind::kSgd);
  const HeadSpec adamw = Spec(bf16, bf16, OptimizerKind::kAdamW), adagrad = Spec(f16, f16, OptimizerKind::kAdagrad);
  const std::vector<Case> cases = {
      {sgd, false, 3, 3e38f, ""},
      {sgd, false, 3, NAN, "number 3 is not finite"},
      {sgd, true, 1, -INFINITY, "slot number 1 is not finite"},
      {sgd, true, 1, -5.0f, ""},
      {half, false, 0, -65504.0f, ""},
      {half, false, 0, -65536.0f, "number 0 is -65536; float16 holds 65504 at most"},
      {half, true, 2, 65536.0f, ""},
      {half, true, 2, 3.4e38f, "slot number 2 is 3.4e+38; bfloat16 holds"},
      {adamw, true, 3, -1.0f, ""},  // The first moment.
      {adamw, true, 4, -1e-9f, "slot number 4 is -1e-09; what adamw sums up there is not negative"},
      {adamw, true, 4, 3.4e38f, ""},  // The second moment is a float32, whatever slot_dtype says.
      {adamw, true, 8, -1.0f, "slot number 8"},
      {adagrad, true, 0, -1.0f, "slot number 0 is -1; what adagrad sums up"},
      {adagrad, true, 0, 1e6f, ""},
  };
  for (const Case& given : cases) {
    SCOPED_TRACE(testing::Message() << given.message << " number " << given.number << " = " << given.value);
    std::vector<float> weights(kDim, 0.5f), slots(SlotNumbers(given.spec), 1.0f);
    ASSERT_TRUE(CheckGivenRow(given.spec, weights.data(), slots.data()).ok());
    (given.in_slots ? slots : weights)[given.number] = given.value;
    const absl::Status status = CheckGivenRow(given.spec, weights.data(), slots.data());
    EXPECT_EQ(status.ok(), given.message.empty()) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(given.message));
    EXPECT_EQ(CheckGivenRow(given.spec, weights.data(), nullptr).ok(), given.in_slots || given.message.empty());
  }
}

}  // namespace
}  // namespace myriad
