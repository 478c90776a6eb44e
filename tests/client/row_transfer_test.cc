#include "client/row_transfer.h"

#include <memory>
#include <string>
#include <vector>

#include <ATen/Functions.h>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/wire/matrix_codec.h"
#include "tests/testing/client/fake_shard.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using testing::FakeShard;
using ::testing::HasSubstr;

constexpr int kDim = 3;

HeadSpec Spec() {
  HeadSpec spec;
  spec.name = "faces";
  spec.class_count = 100;
  spec.embedding_dim = kDim;
  return spec;
}

CallPolicy Policy(absl::Duration deadline) {
  CallPolicy policy;
  policy.deadline = deadline;
  policy.shard_wait = absl::ZeroDuration();
  policy.lost_code = absl::StatusCode::kUnavailable;
  return policy;
}

// The row of a class: all weights are its id, all slots its negative.
v1::ReadRowsResponse RowsOf(const std::vector<int64_t>& ids) {
  v1::ReadRowsResponse response;
  response.set_class_ids(EncodeArray<int64_t>(ids));
  const at::Tensor rows = at::tensor(ids, at::kFloat).unsqueeze(1).expand({static_cast<int64_t>(ids.size()), kDim}).contiguous();
  EncodeMatrix(rows, DataType::kFloat32, response.mutable_centers());
  EncodeMatrix(at::neg(rows), DataType::kFloat32, response.mutable_slots());
  response.set_exists(std::string(ids.size(), '\1'));
  return response;
}

TEST(RowTransferTest, GivenRowsComeWithTheirSlotsInTheOrderAskedFor) {
  FakeShard fake;
  fake.read_rows = [](grpc::ServerContext*, const v1::ReadRowsRequest& request, grpc::ServerWriter<v1::ReadRowsResponse>* writer) {
    EXPECT_TRUE(request.with_slots());
    const std::vector<int64_t> ids = *DecodeArray<int64_t>(request.class_ids(), "");
    for (int64_t id : ids) writer->Write(RowsOf({id}));
    return absl::OkStatus();
  };
  ShardClient shard(0, fake.address());
  const auto rows = RowTransfer(Spec(), {&shard}, Policy(absl::Seconds(60))).FetchRows({7, 3, 99, 3}, /*with_slots=*/true);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_THAT(rows->exists, ElementsAre(true, true, true, true));
  const std::vector<float> expected = {7, 3, 99, 3};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(rows->weights[i], at::full({kDim}, expected[i])));
    EXPECT_TRUE(at::equal(rows->slots[i], at::full({kDim}, -expected[i])));
  }
}

// A shard of 400 GB streams for longer than any call may take; what is bounded is the wait for the next message, not what is done with it.
TEST(RowTransferTest, AStreamMayTakeAnyTimeAsLongAsMessagesCome) {
  constexpr absl::Duration kPatience = absl::Seconds(2);
  FakeShard fake;
  fake.read_rows = [](grpc::ServerContext*, const v1::ReadRowsRequest&, grpc::ServerWriter<v1::ReadRowsResponse>* writer) {
    for (int64_t id = 0; id < 5; ++id) {
      absl::SleepFor(kPatience / 4);
      writer->Write(RowsOf({id}));
    }
    return absl::OkStatus();
  };
  ShardClient shard(0, fake.address());
  int rows = 0;
  const absl::Time start = absl::Now();
  const absl::Status status =
      RowTransfer(Spec(), {&shard}, Policy(kPatience)).ReadShard(0, /*with_slots=*/true, [&](const RowBatch& batch) {
        if (rows == 0) absl::SleepFor(kPatience * 1.5);
        rows += static_cast<int>(batch.class_ids.size());
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(rows, 5);
  EXPECT_GT(absl::Now() - start, kPatience);
}

TEST(RowTransferTest, AStreamThatStopsIsGivenUp) {
  FakeShard fake;
  fake.read_rows = [](grpc::ServerContext* context, const v1::ReadRowsRequest&, grpc::ServerWriter<v1::ReadRowsResponse>* writer) {
    writer->Write(RowsOf({1}));
    return FakeShard::WaitForCancel(context);
  };
  ShardClient shard(4, fake.address());
  int rows = 0;
  const absl::Status status =
      RowTransfer(Spec(), {&shard}, Policy(absl::Milliseconds(300))).ReadShard(0, /*with_slots=*/true, [&](const RowBatch& batch) {
        rows += static_cast<int>(batch.class_ids.size());
        return absl::OkStatus();
      });
  EXPECT_EQ(rows, 1);
  EXPECT_EQ(status, absl::UnavailableError("shard 4 (" + fake.address() + "): no answer within 300ms"));
}

// What a shard says of its disk is not taken for a shard that is gone.
TEST(RowTransferTest, WhatTheShardAnswersIsToldAsItIs) {
  FakeShard fake;
  fake.read_rows = [](grpc::ServerContext*, const v1::ReadRowsRequest&, grpc::ServerWriter<v1::ReadRowsResponse>*) {
    return absl::UnavailableError("/store: Input/output error");
  };
  ShardClient shard(0, fake.address());
  const RowTransfer transfer(Spec(), {&shard}, Policy(absl::Seconds(60)));
  const auto ignore = [](const RowBatch&) { return absl::OkStatus(); };
  EXPECT_EQ(transfer.ReadShard(0, false, ignore), absl::UnavailableError("shard 0 (" + fake.address() + "): /store: Input/output error"));
  fake.Stop();
  EXPECT_THAT(std::string(transfer.ReadShard(0, false, ignore).message()), HasSubstr("cannot be reached"));
}

}  // namespace
}  // namespace myriad
