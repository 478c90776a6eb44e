// Rows as they travel: given ones written and read back, in every dtype, in messages far above gRPC's default of 4 MB.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/protocol_fixture.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using RowsOnTheWireTest = ProtocolTest;
using WorkerRowsOnTheWireTest = WorkerProtocolTest;

template <typename T>
std::vector<T> Unpack(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

v1::WriteRowsRequest WriteOf(const std::vector<int64_t>& ids, const std::vector<float>& weights) {
  v1::WriteRowsRequest write;
  write.set_head("faces");
  write.set_class_ids(PackIds(ids));
  *write.mutable_centers() = PackMatrix(weights, ids.size(), kDim);
  return write;
}

// The upper 16 bits of each number.
v1::Matrix AsBFloat16(const v1::Matrix& matrix) {
  v1::Matrix half = matrix;
  half.set_dtype(v1::DATA_TYPE_BFLOAT16);
  half.clear_data();
  for (size_t i = 0; i < matrix.data().size(); i += 4) half.mutable_data()->append(matrix.data(), i + 2, 2);
  return half;
}

TEST_F(RowsOnTheWireTest, GivenRowsAreReadWithTheirSlotsAndVirtualOnesAmongThem) {
  Start(1, 1);
  v1::WriteRowsRequest write = WriteOf({10, 400}, std::vector<float>(2 * kDim, 2.5f));
  *write.mutable_slots() = PackMatrix(std::vector<float>(2 * kDim, -1.0f), 2, kDim);
  ASSERT_TRUE(stubs_[0]->Write(write).ok());
  const auto read = stubs_[0]->ReadRows("faces", true, {9, 10, 400, 499});
  ASSERT_TRUE(read.ok() && read->size() == 1) << read.status();
  const v1::ReadRowsResponse& rows = (*read)[0];
  EXPECT_THAT(Unpack<int64_t>(rows.class_ids()), ElementsAre(9, 10, 400, 499));
  EXPECT_THAT(Unpack<uint8_t>(rows.exists()), ElementsAre(0, 1, 1, 0));
  EXPECT_THAT(Unpack<int64_t>(rows.last_step()), ElementsAre(-1, -1, -1, -1));
  const std::vector<float> weights = Unpack<float>(rows.centers().data()), slots = Unpack<float>(rows.slots().data());
  ASSERT_EQ(weights.size(), 4u * kDim);
  ASSERT_EQ(slots.size(), 4u * kDim);
  for (int d = 0; d < kDim; ++d) {
    EXPECT_LT(std::abs(weights[d]), 0.1f) << "a virtual row";
    EXPECT_EQ(weights[kDim + d], 2.5f);
    EXPECT_EQ(weights[2 * kDim + d], 2.5f);
    EXPECT_EQ(slots[d], 0.0f);
    EXPECT_EQ(slots[kDim + d], -1.0f);
  }
  // They equal what FetchCenters gives, and reading them made nothing.
  v1::FetchCentersRequest fetch;
  fetch.set_head("faces");
  fetch.set_class_ids(rows.class_ids());
  const auto fetched = stubs_[0]->Fetch(fetch);
  ASSERT_TRUE(fetched.ok() && fetched->size() == 1);
  EXPECT_EQ((*fetched)[0].centers().data(), rows.centers().data());
  EXPECT_EQ(stubs_[0]->Info("faces")->row_count(), 2);

  ExpectCommits(0);
  const auto after = stubs_[0]->ReadRows("faces", false, {10, 11});
  ASSERT_TRUE(after.ok() && after->size() == 1) << after.status();
  EXPECT_THAT(Unpack<int64_t>((*after)[0].last_step()), ElementsAre(0, 0));
  EXPECT_THAT(Unpack<uint8_t>((*after)[0].exists()), ElementsAre(1, 1));
  EXPECT_EQ((*after)[0].committed_steps(), 1);
}

TEST_F(RowsOnTheWireTest, GivenRowsThatCannotBeAreRefused) {
  Start(1, 1);
  for (const std::vector<int64_t>& ids : {std::vector<int64_t>{3, 3}, {4, 3}, {500}, {-1}}) {
    EXPECT_EQ(stubs_[0]->ReadRows("faces", false, ids).status().code(), absl::StatusCode::kInvalidArgument) << ids[0];
  }
  EXPECT_EQ(stubs_[0]->ReadRows("nobody", false, {1}).status().code(), absl::StatusCode::kDataLoss);
  ExpectCommits(0);
}

// What the head's types cannot hold, or no optimizer could have summed up, is not stored as something else.
TEST_F(RowsOnTheWireTest, GivenNumbersThatNoRowOfTheHeadCanHaveAreRefused) {
  Start(1, 1);
  v1::OpenHeadRequest open = MakeOpen("half", kClasses, kDim, {cluster_->addresses()[0]}, 0, 1);
  open.mutable_head()->set_weight_dtype(v1::DATA_TYPE_FLOAT16);
  open.mutable_head()->mutable_adagrad_slots();
  open.mutable_training()->mutable_adagrad();
  ASSERT_TRUE(stubs_[0]->Open(open).ok()) << stubs_[0]->Open(open).status();
  const std::vector<float> ones(2 * kDim, 1.0f);
  std::vector<float> large = ones, negative = ones, absent = ones;
  large[kDim] = -7e4f;
  negative[2 * kDim - 1] = -1.0f;
  absent[0] = NAN;
  const auto write = [&](const std::vector<float>& weights, const std::vector<float>& slots) {
    v1::WriteRowsRequest request = WriteOf({1, 2}, weights);
    request.set_head("half");
    *request.mutable_slots() = PackMatrix(slots, 2, kDim);
    return stubs_[0]->Write(request);
  };
  EXPECT_EQ(write(large, ones), absl::InvalidArgumentError("class 2: number 0 is -70000; float16 holds 65504 at most"));
  EXPECT_EQ(write(absent, ones), absl::InvalidArgumentError("class 1: number 0 is not finite"));
  EXPECT_EQ(write(ones, negative).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(stubs_[0]->Info("half")->row_count(), 0) << "all or nothing";
  EXPECT_TRUE(write(ones, ones).ok());
}

TEST_F(RowsOnTheWireTest, GivenRowsOfAnotherShardAreRefused) {
  Start(2, 1);
  std::vector<int64_t> all(kClasses);
  std::iota(all.begin(), all.end(), 0);
  for (const auto& shard : stubs_) {
    EXPECT_EQ(shard->ReadRows("faces", false, all).status().code(), absl::StatusCode::kFailedPrecondition);
  }
}

TEST_F(RowsOnTheWireTest, RowsAreWrittenInSixteenBits) {
  Start(1, 1);
  // Numbers that bfloat16 holds exactly.
  std::vector<float> weights;
  for (int i = 0; i < 2 * kDim; ++i) weights.push_back(i - 7.5f);
  v1::WriteRowsRequest write = WriteOf({1, 2}, weights);
  *write.mutable_slots() = AsBFloat16(PackMatrix(std::vector<float>(2 * kDim, -0.375f), 2, kDim));
  *write.mutable_centers() = AsBFloat16(write.centers());
  ASSERT_TRUE(stubs_[0]->Write(write).ok());
  const auto read = stubs_[0]->ReadRows("faces", true);
  ASSERT_TRUE(read.ok() && read->size() == 1) << read.status();
  std::vector<float> expected = weights;
  if (Unpack<int64_t>((*read)[0].class_ids())[0] == 2) std::rotate(expected.begin(), expected.begin() + kDim, expected.end());
  EXPECT_EQ(Unpack<float>((*read)[0].centers().data()), expected);
  EXPECT_EQ(Unpack<float>((*read)[0].slots().data()), std::vector<float>(2 * kDim, -0.375f));
}

TEST_F(WorkerRowsOnTheWireTest, GradientsInSixteenBitsMoveRowsAsTheSameNumbersInThirtyTwo) {
  std::vector<std::string> rows;
  for (const bool half : {false, true}) {
    const auto fetched0 = Fetch(0, 0), fetched1 = Fetch(1, 0);
    ASSERT_TRUE(fetched0.ok() && fetched1.ok());
    ASSERT_TRUE(Merge(0, 0).ok());
    v1::ApplyGradientsRequest apply0 = Gradients(*fetched0, 0, 0, 0.375f), apply1 = Gradients(*fetched1, 0, 0, 0.375f);
    if (half) {
      *apply0.mutable_gradients() = AsBFloat16(apply0.gradients());
      *apply1.mutable_gradients() = AsBFloat16(apply1.gradients());
    }
    auto call0 = ApplyAsync(0, apply0), call1 = ApplyAsync(1, apply1);
    ASSERT_TRUE(call0.get().ok());
    ASSERT_TRUE(call1.get().ok());
    rows.push_back(AllRows());
    for (int shard = 0; shard < 2; ++shard) {
      cluster_->Restart(shard);
    }
    for (int shard = 0; shard < 2; ++shard) {
      stubs_[shard] = std::make_unique<ShardStubs>(cluster_->addresses()[shard]);
      ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
    }
  }
  EXPECT_FALSE(rows[0].empty());
  EXPECT_EQ(rows[0], rows[1]);
}

// 2,600 rows of 512 numbers are 5.3 MB in one message each way.
TEST_F(WorkerRowsOnTheWireTest, CentersAndGradientsAboveFourMegabytesGoInOneMessage) {
  constexpr int kWide = 512, kRows = 2600;
  v1::OpenHeadRequest open = MakeOpen("wide", kRows, kWide, {cluster_->addresses()[0]}, 0, 1);
  open.mutable_training()->set_placement(v1::PLACEMENT_WORKER);
  ASSERT_TRUE(stubs_[0]->Open(open).ok());
  v1::StepKey key = Key(0, 0);
  key.set_head("wide");
  v1::FetchStepRequest fetch;
  *fetch.mutable_key() = key;
  fetch.set_labels(PackIds({5}));
  fetch.mutable_parameters()->set_learning_rate(0.1);
  const auto fetched = Call(0, &v1::CenterShard::Stub::FetchStep, fetch);
  ASSERT_TRUE(fetched.ok()) << fetched.status();
  EXPECT_EQ(fetched->centers().data().size(), size_t{kRows} * kWide * sizeof(float));
  v1::MergeDenominatorsRequest merge;
  *merge.mutable_key() = key;
  merge.mutable_denominators()->set_max_logit(std::string(sizeof(float), '\0'));
  merge.mutable_denominators()->set_sum_exp(std::string(sizeof(double), '\0'));
  ASSERT_TRUE(Call(0, &v1::CenterShard::Stub::MergeDenominators, merge).ok());
  v1::ApplyGradientsRequest apply;
  *apply.mutable_key() = key;
  apply.set_class_ids(fetched->class_ids());
  *apply.mutable_gradients() = PackMatrix(std::vector<float>(size_t{kRows} * kWide, 0.5f), kRows, kWide);
  const auto applied = Call(0, &v1::CenterShard::Stub::ApplyGradients, apply);
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(applied->row_count(), kRows);
  EXPECT_EQ(stubs_[0]->Info("wide")->committed_steps(), 1);
}

}  // namespace
}  // namespace myriad
