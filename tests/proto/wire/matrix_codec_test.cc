#include "proto/wire/matrix_codec.h"

#include <ATen/Functions.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

const std::vector<float> kNumbers = {1.0f, -2.5f, 0.0f, 3.140625f, 1e-3f, -65504.0f};

v1::Matrix Encoded(DataType dtype) {
  v1::Matrix matrix;
  EncodeMatrix(kNumbers, 2, 3, dtype, &matrix);
  return matrix;
}

TEST(MatrixCodecTest, Float32IsViewedWithoutACopy) {
  const v1::Matrix matrix = Encoded(DataType::kFloat32);
  const absl::StatusOr<at::Tensor> tensor = ViewMatrix(matrix, 3, "embeddings");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(static_cast<const void*>(tensor->const_data_ptr()), matrix.data().data());
  EXPECT_EQ(std::vector<float>(tensor->const_data_ptr<float>(), tensor->const_data_ptr<float>() + 6), kNumbers);
}

TEST(MatrixCodecTest, SixteenBitNumbersTakeTwoBytesAndAreRounded) {
  for (const auto& [dtype, unit] : {std::make_pair(DataType::kBFloat16, 1.0f / 256), std::make_pair(DataType::kFloat16, 1.0f / 2048)}) {
    const v1::Matrix matrix = Encoded(dtype);
    EXPECT_EQ(matrix.data().size(), 12u);
    const absl::StatusOr<at::Tensor> tensor = ViewMatrix(matrix, 3, "embeddings");
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    ASSERT_EQ(tensor->scalar_type(), at::kFloat);
    for (int i = 0; i < 6; ++i) {
      EXPECT_NEAR(tensor->const_data_ptr<float>()[i], kNumbers[i], std::abs(kNumbers[i]) * unit) << i;
    }
  }
}

TEST(MatrixCodecTest, WhatDoesNotFitItsShapeIsRefusedAndNamed) {
  const std::vector<std::pair<std::string, std::function<void(v1::Matrix*)>>> cases = {
      {"2 wide; the head's are 3", [](auto* m) { m->set_cols(2); }},
      {"-1 rows", [](auto* m) { m->set_rows(-1); }},
      {"rows are outside [0, 2^31)", [](auto* m) { m->set_rows(int64_t{1} << 31); }},
      {"25 bytes of data; 2 x 3 needs 24", [](auto* m) { m->mutable_data()->push_back('\0'); }},
      {"24 bytes of data; 2 x 3 needs 12", [](auto* m) { m->set_dtype(v1::DATA_TYPE_FLOAT16); }},
      {"dtype is not set", [](auto* m) { m->set_dtype(v1::DATA_TYPE_UNSPECIFIED); }},
      {"dtype 99 is not known", [](auto* m) { m->set_dtype(static_cast<v1::DataType>(99)); }},
      {"24 bytes of data; 0 x 3 needs 0", [](auto* m) { m->set_rows(0); }},
  };
  for (const auto& [text, spoil] : cases) {
    v1::Matrix matrix = Encoded(DataType::kFloat32);
    spoil(&matrix);
    const absl::Status status = ViewMatrix(matrix, 3, "embeddings").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), ::testing::AllOf(HasSubstr("embeddings: "), HasSubstr(text)));
  }
}

TEST(MatrixCodecTest, AnEmptyMatrixNeedsNoTypeAndNoWidth) {
  const absl::StatusOr<at::Tensor> tensor = ViewMatrix(v1::Matrix(), 3, "embeddings");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->sizes(), (std::vector<int64_t>{0, 3}));
}

TEST(MatrixCodecTest, ArraysAreWholeNumbersOfLittleEndianBytes) {
  EXPECT_EQ(EncodeArray<int64_t>({1, -1}), std::string("\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16));
  EXPECT_EQ(*DecodeArray<int32_t>(std::string("\2\0\0\0\0\1\0\0", 8), "ids"), (std::vector<int32_t>{2, 256}));
  const absl::Status status = DecodeArray<double>("seven b", "sums").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sums: 7 bytes are no multiple of 8"));
}

}  // namespace
}  // namespace myriad
