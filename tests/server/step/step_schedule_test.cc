// The step's protocol under schedules that nobody wrote down.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/step/step_engine.h"
#include "tests/testing/server/fake_cluster.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using Call = FakeCluster::Call;

// Whatever the order in which calls come, tasks run and links break: living shards have moved the same steps in the end.
TEST(StepScheduleTest, LivingShardsMoveTheSameStepsUnderAnyScheduleAndKills) {
  int commits = 0, losses = 0;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937 rng(seed);
    const int shards = 2 + rng() % 4, ranks = 1 + rng() % 3;
    FakeCluster::Options options;
    options.shards = shards;
    options.ranks = ranks;
    FakeCluster cluster(options);
    const int victim = rng() % shards;
    const int kill_at = rng() % 200;
    int event = 0;
    bool lost = false, isolated = false;
    int attempt = 0;
    const int chunks = 1 + rng() % 3;
    int chunk = 0;
    for (int64_t step = 0; step < 4 && !lost;) {
      std::vector<std::shared_ptr<FakeAnswer>> answers;
      std::vector<std::pair<int, Call>> calls;
      bool complete = true;
      for (int shard = 0; shard < shards; ++shard) {
        for (int rank = 0; rank < ranks; ++rank) {
          // A call that is lost on its way: a deadline ends the attempt.
          const int copies = rng() % 20 == 0 ? 0 : rng() % 8 == 0 ? 2 : 1;
          if (copies == 0) complete = false;
          for (int copy = 0; copy < copies; ++copy) {
            calls.push_back({shard, {step, rank, attempt}});
            calls.back().second.phase = chunk;
            calls.back().second.phase_count = chunks;
          }
        }
      }
      std::shuffle(calls.begin(), calls.end(), rng);
      const bool holds = rng() % 2;
      for (int to = 0; to < shards; ++to) {
        if (holds && rng() % 2) cluster.HoldAnswers(victim, to);
      }
      for (const auto& [shard, call] : calls) {
        answers.push_back(cluster.Send(shard, call));
        for (uint32_t turns = rng() % 4; turns > 0; --turns) cluster.RunAny(rng);
        if (++event == kill_at) cluster.Kill(victim);
      }
      while (cluster.RunAny(rng)) {
        if (++event == kill_at) cluster.Kill(victim);
      }
      // Answers that were held back come late, perhaps too late, or never; a link that breaks takes the victim from one shard alone.
      if (const uint32_t fate = rng() % 8; fate < 2) {
        cluster.Kill(victim);
      } else if (fate < 4) {
        for (int to = 0; to < shards; ++to) {
          if (to != victim && rng() % 2) {
            cluster.Cut(victim, to);
            isolated = true;
          }
        }
      }
      if (rng() % 2) cluster.Advance(absl::Seconds(25));
      for (int to = 0; to < shards; ++to) cluster.RestoreAnswers(victim, to);
      cluster.Advance(absl::Seconds(45));
      bool again = !complete;
      for (size_t i = 0; i < answers.size(); ++i) {
        if (cluster.is_down(calls[i].first)) continue;
        ASSERT_TRUE(answers[i]->answered()) << "step " << step << " shard " << calls[i].first << " rank " << calls[i].second.rank;
        const absl::Status status = answers[i]->status();
        if (status.ok()) continue;
        EXPECT_TRUE(absl::IsAborted(status) || absl::IsDataLoss(status)) << status;
        lost = lost || absl::IsDataLoss(status);
        again = again || absl::IsAborted(status);
      }
      lost = lost || isolated || cluster.is_down(victim);
      if (again) {  // From the first chunk on.
        ++attempt;
        chunk = 0;
      } else if (!lost && ++chunk == chunks) {
        ++step;
        attempt = 0;
        chunk = 0;
        ++commits;
      }
    }
    cluster.Advance(absl::Seconds(60));
    losses += lost;
    const std::vector<int64_t>* moved = nullptr;
    for (int shard = 0; shard < shards; ++shard) {
      if (shard == victim && (isolated || cluster.is_down(shard))) continue;
      if (moved == nullptr) moved = &cluster.log(shard).moved;
      EXPECT_EQ(cluster.log(shard).moved, *moved) << "shard " << shard;
    }
  }
  EXPECT_GT(commits, 100);
  EXPECT_GT(losses, 100);
}

// Each rank trains two heads in an order of its own; every step needs all ranks, and only two threads compute.
TEST(StepScheduleTest, ManyRanksAndTwoHeadsInOppositeOrderOnTwoThreads) {
  constexpr int kRanks = 64, kSteps = 5;
  ThreadTimer timer;
  auto pool = std::make_unique<ThreadPool>(2, nullptr);
  struct NoPeers : PeerClient {
    void Vote(int, const Ballot&, absl::Duration, OutcomeCallback) override { std::abort(); }
    void GetOutcome(int, const VoteKey&, int, absl::Duration, OutcomeCallback) override { std::abort(); }
    void CheckHead(int, int64_t, absl::Duration, std::function<void(absl::Status)>) override { std::abort(); }
    std::string NameOf(int) const override { return "shard 0"; }
  };
  std::vector<std::shared_ptr<FakeStepLog>> logs;
  std::vector<std::shared_ptr<StepEngine>> heads;
  for (int head = 0; head < 2; ++head) {
    auto peers = std::make_shared<NoPeers>();
    auto reducer = std::make_shared<Reducer>(Reducer::Options(), &timer, peers);
    StepEngine::Options options;
    options.head = absl::StrCat("head", head);
    options.incarnation = 1;
    options.rank_count = kRanks;
    options.step_deadline = absl::Seconds(60);
    options.on_commit = [reducer](int64_t step) { reducer->ForgetBefore(step); };
    logs.push_back(std::make_shared<FakeStepLog>());
    heads.push_back(std::make_shared<StepEngine>(
        options, std::make_unique<FakeStepWork>(logs.back()), std::make_shared<Strand>(pool.get()), &timer, std::make_shared<RowGate>(),
        std::make_shared<VoteExchange>(VoteExchange::Options{1, 0, absl::Seconds(10)}, reducer, &timer, peers)));
  }
  std::atomic<int> failures{0};
  absl::BlockingCounter all(2 * kRanks * kSteps);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int64_t step = 0; step < kSteps; ++step) {
        absl::BlockingCounter both(2);
        for (int i = 0; i < 2; ++i) {  // Odd ranks call head 1 first.
          StepCall call;
          call.step = step;
          call.rank = rank;
          call.digest = absl::StrCat(rank);
          call.part = HeadStepPart();
          call.done = [&](const absl::StatusOr<std::shared_ptr<const RankReply>>& reply) {
            failures += !reply.ok();
            both.DecrementCount();
            all.DecrementCount();
          };
          heads[(rank + i) % 2]->Call(std::move(call));
        }
        both.Wait();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  all.Wait();
  pool.reset();  // What the last step still settles.
  EXPECT_EQ(failures, 0);
  for (const auto& log : logs) EXPECT_THAT(log->moved, ElementsAre(0, 1, 2, 3, 4));
}

}  // namespace
}  // namespace myriad
