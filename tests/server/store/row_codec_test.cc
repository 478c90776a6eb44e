#include "server/store/row_codec.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

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
      codec.FillVirtual(123, direct.data());
      EXPECT_EQ(decoded, direct);
      EXPECT_EQ(slots, std::vector<float>(dim, 0.0f));
      codec.EncodeNearest(direct.data(), nullptr, again.data());
      EXPECT_EQ(record, again);
    }
  }
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
