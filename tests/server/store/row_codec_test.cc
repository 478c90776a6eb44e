#include "server/store/row_codec.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "head/virtual_rows.h"

namespace myriad {
namespace {

HeadSpec Spec(DataType weights, DataType slots, int dim = 37) {
  HeadSpec head;
  head.name = "h";
  head.class_count = 1000;
  head.embedding_dim = dim;
  head.weight_dtype = weights;
  head.slot_dtype = slots;
  head.seed = 9;
  return head;
}

TEST(RowCodecTest, SizesFollowFromTheTypes) {
  EXPECT_EQ(RowCodec(Spec(DataType::kFloat32, DataType::kFloat32)).record_bytes(), 37 * 8);
  EXPECT_EQ(RowCodec(Spec(DataType::kBFloat16, DataType::kFloat32)).record_bytes(), 37 * 6);
  EXPECT_EQ(RowCodec(Spec(DataType::kFloat16, DataType::kBFloat16)).record_bytes(), 37 * 4);
  EXPECT_TRUE(RowCodec(Spec(DataType::kFloat32, DataType::kFloat32)).in_place());
  EXPECT_FALSE(RowCodec(Spec(DataType::kFloat32, DataType::kBFloat16)).in_place());
}

TEST(RowCodecTest, AVirtualRowIsWhatStoringItGives) {
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}) {
    for (const int dim : {37, 1500}) {
      const RowCodec codec(Spec(type, DataType::kFloat32, dim));
      std::vector<std::byte> record(codec.record_bytes(), std::byte{0xff}), again(codec.record_bytes());
      std::vector<float> direct(dim), decoded(dim), slots(dim);
      codec.EncodeVirtual(123, record.data());
      codec.Decode(record.data(), decoded.data(), slots.data());
      FillVirtualRow(Spec(type, DataType::kFloat32, dim), 123, direct.data());
      EXPECT_EQ(decoded, direct);
      EXPECT_EQ(slots, std::vector<float>(dim, 0.0f));
      codec.EncodeNearest(direct.data(), nullptr, again.data());
      EXPECT_EQ(record, again);
    }
  }
}

// Second moments and counts keep their float32: 0.999 v would round back to v.
TEST(RowCodecTest, OnlyTheFirstMomentOfAdamWMayHave16Bits) {
  for (const int dim : {36, 37}) {
    HeadSpec head = Spec(DataType::kBFloat16, DataType::kBFloat16, dim);
    head.slots = OptimizerKind::kAdamW;
    const RowCodec codec(head);
    EXPECT_EQ(codec.record_bytes(), 2 * dim + 2 * dim + 4 * (dim + 1));
    std::vector<float> weights(dim, 1.0f), slots, decoded_weights(dim), decoded(2 * dim + 1);
    for (int i = 0; i < 2 * dim + 1; ++i) slots.push_back(1.0f + static_cast<float>(i) / 1000.0f);
    std::vector<std::byte> record(codec.record_bytes());
    for (const bool of_step : {false, true}) {
      if (of_step) {
        codec.EncodeStep(3, 4, weights.data(), slots.data(), record.data());
      } else {
        codec.EncodeNearest(weights.data(), slots.data(), record.data());
      }
      codec.Decode(record.data(), decoded_weights.data(), decoded.data());
      EXPECT_EQ(decoded_weights, weights);
      for (int i = 0; i < dim; ++i) EXPECT_NEAR(decoded[i], slots[i], 0x1p-7f);
      for (int i = dim; i < 2 * dim + 1; ++i) EXPECT_EQ(decoded[i], slots[i]);
      EXPECT_NE(std::vector<float>(decoded.begin(), decoded.begin() + dim), std::vector<float>(slots.begin(), slots.begin() + dim));
    }
  }
  HeadSpec head = Spec(DataType::kFloat32, DataType::kBFloat16);
  head.slots = OptimizerKind::kAdagrad;
  EXPECT_TRUE(RowCodec(head).in_place()) << "sums of squares are float32 always";
}

TEST(RowCodecTest, AStepsRoundingDependsOnStepClassAndSlotAndOnNothingElse) {
  const RowCodec codec(Spec(DataType::kBFloat16, DataType::kBFloat16, 512));
  const std::vector<float> numbers(512, 1.0f + 0x1p-9f);
  const auto encode = [&](int64_t step, int64_t class_id) {
    std::vector<std::byte> record(codec.record_bytes());
    codec.EncodeStep(step, class_id, numbers.data(), numbers.data(), record.data());
    return record;
  };
  const std::vector<std::byte> record = encode(5, 77);
  EXPECT_EQ(record, encode(5, 77));
  EXPECT_NE(record, encode(6, 77));
  EXPECT_NE(record, encode(5, 78));
  const auto middle = record.begin() + 1024;
  EXPECT_FALSE(std::equal(record.begin(), middle, middle)) << "weights and slots take the same random bits";
}

}  // namespace
}  // namespace myriad
