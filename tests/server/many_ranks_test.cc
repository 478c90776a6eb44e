// More ranks and heads than threads, over real sockets.
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "proto/wire/status.h"
#include "tests/server/protocol_fixture.h"

namespace myriad {
namespace {

using ManyRanksTest = ProtocolTest;

// Each rank sends a step of both heads to both shards, odd ranks the other head first, and goes on when all four are answered. Every step
// needs all ranks, and each server computes on two threads: one that waited for a rank would keep the others out.
TEST_F(ManyRanksTest, SixtyFourRanksAndTwoHeadsInOppositeOrderOnTwoThreads) {
  constexpr int kRanks = 64, kSteps = 4;
  const std::vector<std::string> heads = {"faces", "products"};
  ranks_ = kRanks;
  cluster_ = std::make_unique<ShardCluster>(2);
  for (int shard = 0; shard < 2; ++shard) {
    stubs_.push_back(std::make_unique<ShardStubs>(cluster_->addresses()[shard]));
    opens_.push_back(OpenRequest(shard));
    opens_[shard].set_step_deadline_ms(60000);
    for (const std::string& head : heads) {
      v1::OpenHeadRequest open = opens_[shard];
      open.mutable_head()->set_name(head);
      ASSERT_TRUE(stubs_[shard]->Open(open).ok());
    }
  }
  struct Call {
    grpc::ClientContext context;
    v1::HeadStepRequest request;
    v1::HeadStepResponse response;
    grpc::Status status;
  };
  // A rank's step, then its next; callbacks of gRPC go on, so no rank needs a thread.
  struct Rank {
    int rank = 0;
    int64_t step = 0;
    std::atomic<int> open{0};
    std::deque<Call> calls;
  };
  std::deque<Rank> ranks(kRanks);
  absl::BlockingCounter finished(kRanks);
  std::function<void(Rank*)> send = [&](Rank* rank) {
    rank->calls.clear();
    for (int i = 0; i < 4; ++i) {
      rank->calls.emplace_back();
      Call& call = rank->calls.back();
      call.request = StepOf(rank->step, rank->rank % 16);
      call.request.set_rank(rank->rank);
      call.request.mutable_key()->set_head(heads[(i / 2 + rank->rank) % 2]);
      call.context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(2)));
    }
    rank->open = 4;
    for (int i = 0; i < 4; ++i) {
      Call& call = rank->calls[i];
      stubs_[i % 2]->centers().async()->HeadStep(&call.context, &call.request, &call.response, [&, rank](grpc::Status status) {
        call.status = std::move(status);
        if (--rank->open > 0) return;
        bool ok = true;
        for (const Call& answered : rank->calls) {
          EXPECT_TRUE(answered.status.ok()) << "rank " << rank->rank << " step " << rank->step << ": " << FromGrpcStatus(answered.status);
          ok = ok && answered.status.ok();
        }
        if (ok && ++rank->step < kSteps) {
          send(rank);
        } else {
          finished.DecrementCount();
        }
      });
    }
  };
  for (int rank = 0; rank < kRanks; ++rank) ranks[rank].rank = rank;
  for (Rank& rank : ranks) send(&rank);
  finished.Wait();
  for (int shard = 0; shard < 2; ++shard) {
    for (const std::string& head : heads) {
      const auto info = stubs_[shard]->Info(head);
      ASSERT_TRUE(info.ok());
      EXPECT_EQ(info->committed_steps(), kSteps) << head << " on shard " << shard;
    }
    // The same seed and the same samples.
    const auto faces = stubs_[shard]->ReadRows("faces", true), products = stubs_[shard]->ReadRows("products", true);
    ASSERT_TRUE(faces.ok() && products.ok());
    ASSERT_EQ(faces->size(), products->size());
    for (size_t i = 0; i < faces->size(); ++i) EXPECT_EQ((*faces)[i].SerializeAsString(), (*products)[i].SerializeAsString());
    ASSERT_GT(faces->size(), 0u);
  }
}

}  // namespace
}  // namespace myriad
