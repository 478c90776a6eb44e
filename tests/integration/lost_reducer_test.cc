// The process that decides a step is killed just before and just after its answer; real server programs, votes held on their way.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/child_process.h"
#include "client/local_shards.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/client/fake_shard.h"
#include "tests/testing/server/shard_stubs.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kServer[] = "server/myriad-server";  // Among the test's runfiles, where it runs.
constexpr int kShards = 3, kReducer = 1;            // Of step 1.

// Stands before a reducer: hands votes on, and keeps the answers.
class VoteProxy : public v1::ShardPeer::Service {
 public:
  explicit VoteProxy(const std::string& reducer) : reducer_(reducer) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~VoteProxy() override { Stop(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  // From now on nothing listens there.
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  void WaitForVote() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&voted_));
  }
  // Until the reducer has answered COMMIT, which only this proxy knows.
  void WaitForCommit() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&committed_));
  }

  grpc::Status Vote(grpc::ServerContext* context, const v1::VoteRequest* request, v1::VoteResponse* response) override {
    {
      absl::MutexLock lock(&mu_);
      voted_ = true;
    }
    grpc::ClientContext onward;
    onward.set_deadline(context->deadline());
    if (grpc::Status status = reducer_.peer().Vote(&onward, *request, response); !status.ok()) return status;
    {
      absl::MutexLock lock(&mu_);
      committed_ = committed_ || response->outcome().decision() == v1::StepOutcome::DECISION_COMMIT;
    }
    testing::FakeShard::WaitForCancel(context).IgnoreError();
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the answer is lost");
  }

 private:
  ShardStubs reducer_;
  int port_ = 0;
  absl::Mutex mu_;
  bool voted_ ABSL_GUARDED_BY(mu_) = false;
  bool committed_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<grpc::Server> server_;
};

class LostReducerTest : public ::testing::Test {
 protected:
  // Three shards that have committed step 0. Those that `proxied` names know the reducer of step 1 by a proxy.
  void Start(const std::set<int>& proxied) {
    LocalShards::Options options;
    options.server_binary = kServer;
    options.count = kShards;
    options.threads_per_server = 1;
    auto started = LocalShards::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    shards_ = *std::move(started);
    for (int shard = 0; shard < kShards; ++shard) {
      std::vector<std::string> addresses = shards_->addresses();
      proxies_.push_back(std::make_unique<VoteProxy>(addresses[kReducer]));
      if (proxied.count(shard) > 0) addresses[kReducer] = proxies_[shard]->address();
      stubs_.push_back(std::make_unique<ShardStubs>(shards_->addresses()[shard]));
      opens_.push_back(MakeOpen("faces", 500, 8, addresses, shard, 1));
      opens_[shard].set_shard_wait_ms(1000);
      ASSERT_TRUE(stubs_[shard]->Open(opens_[shard]).ok());
    }
    std::vector<std::future<absl::StatusOr<v1::HeadStepResponse>>> calls;
    for (int shard = 0; shard < kShards; ++shard) calls.push_back(Step(shard, 0));
    for (auto& call : calls) {
      const absl::Status status = call.get().status();
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  std::future<absl::StatusOr<v1::HeadStepResponse>> Step(int shard, int64_t step) {
    return stubs_[shard]->StepAsync(MakeStep(opens_[shard], step, 0, {7, 400, 499}, step));
  }
  void KillReducer() {
    shards_->server(kReducer).Signal(SIGKILL);
    ASSERT_TRUE(shards_->server(kReducer).Wait(absl::Seconds(30)).has_value());
    for (const auto& proxy : proxies_) proxy->Stop();
  }
  // The steps that the shard's rows are of.
  std::set<int64_t> StepsOfRows(int shard) {
    std::set<int64_t> steps;
    const auto rows = stubs_[shard]->ReadRows("faces", true);
    EXPECT_TRUE(rows.ok()) << rows.status();
    for (const v1::ReadRowsResponse& message : *rows) {
      for (size_t i = 0; i < message.last_step().size(); i += sizeof(int64_t)) {
        int64_t step;
        std::memcpy(&step, message.last_step().data() + i, sizeof(step));
        steps.insert(step);
      }
    }
    return steps;
  }
  void ExpectStands(int shard, int64_t last_step) {
    SCOPED_TRACE(absl::StrCat("shard ", shard));
    EXPECT_THAT(StepsOfRows(shard), ElementsAre(last_step));
    const auto info = stubs_[shard]->Info("faces");
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->committed_steps(), last_step + 1);
  }
  static void ExpectNamesTheReducer(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("shard ", kReducer)));
  }

  std::unique_ptr<LocalShards> shards_;
  std::vector<std::unique_ptr<VoteProxy>> proxies_;
  std::vector<std::unique_ptr<ShardStubs>> stubs_;
  std::vector<v1::OpenHeadRequest> opens_;
};

TEST_F(LostReducerTest, KilledBeforeItsAnswerNoLivingShardMoves) {
  Start({0, 2});
  // No rank reaches the reducer itself, so it cannot have decided.
  auto call0 = Step(0, 1), call2 = Step(2, 1);
  for (int shard : {0, 2}) proxies_[shard]->WaitForVote();
  KillReducer();
  ExpectNamesTheReducer(call0.get().status());
  ExpectNamesTheReducer(call2.get().status());
  for (int shard : {0, 2}) {
    ExpectStands(shard, 0);
    ExpectNamesTheReducer(Step(shard, 2).get().status());
  }
}

TEST_F(LostReducerTest, KilledAfterItHasAnsweredOneShardAllLivingShardsMove) {
  Start({2});
  auto call0 = Step(0, 1), call1 = Step(1, 1), call2 = Step(2, 1);
  proxies_[2]->WaitForCommit();
  const absl::Status told = call0.get().status();
  EXPECT_TRUE(told.ok()) << told;
  KillReducer();
  ExpectNamesTheReducer(call2.get().status());
  for (int shard : {0, 2}) ExpectStands(shard, 1);
}

}  // namespace
}  // namespace myriad
