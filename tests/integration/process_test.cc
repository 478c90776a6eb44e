// The real server program under the client: lost shards, and the benchmark as it is shipped.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/Functions.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/bench_head.h"
#include "client/child_process.h"
#include "client/head_client.h"
#include "client/local_shards.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

constexpr char kServer[] = "server/myriad-server";  // Among the test's runfiles, where it runs.
constexpr int kDim = 16;

std::unique_ptr<LocalShards> StartShards(int count) {
  LocalShards::Options options;
  options.server_binary = kServer;
  options.count = count;
  options.threads_per_server = 1;
  auto shards = LocalShards::Start(options);
  EXPECT_TRUE(shards.ok()) << shards.status();
  return shards.ok() ? *std::move(shards) : nullptr;
}

std::unique_ptr<HeadClient> OpenClient(const std::vector<std::string>& addresses, Placement placement) {
  HeadClient::Options options;
  options.head.name = "faces";
  options.head.class_count = 5003;
  options.head.embedding_dim = kDim;
  options.training.sampler.sample_count = 200;
  options.training.placement = placement;
  options.shard_addresses = addresses;
  options.shard_wait = absl::Seconds(1);
  auto client = HeadClient::Create(options);
  EXPECT_TRUE(client.ok()) << client.status();
  const auto incarnation = (*client)->MintIncarnation();
  EXPECT_TRUE(incarnation.ok()) << incarnation.status();
  EXPECT_EQ((*client)->Open(incarnation.value_or(1)).value_or(-1), 0);
  return *std::move(client);
}

absl::StatusOr<StepResult> Step(HeadClient* client, int64_t step) {
  const std::vector<int64_t> labels = {1, 2000, 5002};
  StepInput input;
  input.step = step;
  input.learning_rate = 0.1;
  input.embeddings = at::sin(at::arange(3 * kDim, at::kFloat)).view({3, kDim});
  input.labels = labels;
  return client->Step(input);
}

class LostShardTest : public ::testing::TestWithParam<Placement> {};
INSTANTIATE_TEST_SUITE_P(Placements, LostShardTest, ::testing::Values(Placement::kShard, Placement::kWorker), [](const auto& info) {
  return info.param == Placement::kShard ? std::string("AtShard") : std::string("AtWorker");
});

// Whichever shard goes, and whether or not it would have been the reducer of the step.
TEST_P(LostShardTest, AKilledShardEndsTheRunWithDataLossNamingIt) {
  for (int killed = 0; killed < 3; ++killed) {
    SCOPED_TRACE(absl::StrCat("shard ", killed, " is killed before step 1, whose reducer is shard 1"));
    const std::unique_ptr<LocalShards> shards = StartShards(3);
    ASSERT_NE(shards, nullptr);
    const std::unique_ptr<HeadClient> client = OpenClient(shards->addresses(), GetParam());
    const auto first = Step(client.get(), 0);
    ASSERT_TRUE(first.ok()) << first.status();
    shards->server(killed).Signal(SIGKILL);
    ASSERT_TRUE(shards->server(killed).Wait(absl::Seconds(30)).has_value());
    const absl::Time start = absl::Now();
    const absl::Status status = Step(client.get(), 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_NE(status.message().find(absl::StrCat("shard ", killed)), std::string::npos) << status;
    EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  }
}

TEST_P(LostShardTest, AShardThatRestartedEmptyIsDataLoss) {
  std::unique_ptr<LocalShards> shards = StartShards(1);
  ASSERT_NE(shards, nullptr);
  const std::unique_ptr<HeadClient> client = OpenClient(shards->addresses(), GetParam());
  ASSERT_TRUE(Step(client.get(), 0).ok());
  const std::string address = shards->addresses()[0];
  shards->server(0).Signal(SIGKILL);
  ASSERT_TRUE(shards->server(0).Wait(absl::Seconds(30)).has_value());
  ChildProcess::Options restart;
  restart.arguments = {kServer, "--listen", address, "--threads", "1"};
  auto server = ChildProcess::Spawn(restart);
  ASSERT_TRUE(server.ok()) << server.status();
  // It may not serve yet: the client waits for that, and then hears that the rows are gone.
  ASSERT_EQ(client->WaitForShards(absl::Seconds(30)), absl::OkStatus());
  const absl::Status status = Step(client.get(), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_NE(status.message().find(absl::StrCat("shard 0 (", address, ")")), std::string::npos) << status;
}

TEST(MyriadServerProgramTest, SaysItsNameAndItsVersionAndTellsAWrongCommandLine) {
  for (const auto& [argument, code, start] : std::vector<std::tuple<std::string, int, std::string>>{
           {"--version", 0, "myriad-server 0."}, {"--help", 0, "One shard of"}, {"--lisen", 2, "myriad-server: "}}) {
    ChildProcess::Options options;
    options.arguments = {kServer, argument};
    options.log_path = absl::StrCat(::testing::TempDir(), "/said", argument, ".", ::getpid());
    auto server = ChildProcess::Spawn(options);
    ASSERT_TRUE(server.ok()) << server.status();
    const absl::optional<ProcessExit> exit = (*server)->Wait(absl::Minutes(1));
    ASSERT_TRUE(exit.has_value());
    EXPECT_EQ(exit->code, code);
    const std::string said = LastLines(options.log_path, 100);
    EXPECT_EQ(said.substr(0, start.size()), start) << said;
    ::unlink(options.log_path.c_str());
  }
}

// One line that names what is wrong, and an exit code other than 0.
TEST(MyriadServerProgramTest, WhatCannotBeServedIsOneLine) {
  const std::unique_ptr<LocalShards> shards = StartShards(1);
  ASSERT_NE(shards, nullptr);
  const std::string taken = shards->addresses()[0];
  const std::vector<std::tuple<std::string, std::string, int, std::string>> cases = {
      {"--listen", taken, 1, absl::StrCat("cannot listen on ", taken, ": Address already in use")},
      {"--listen", "nowhere", 1, "'nowhere'"},
      {"--threads", "5000", 1, "--threads 5000 is outside [0, 4096]"},
      {"--max-rows", "-1", 1, "max-rows -1 is outside"},
      {"--max-message-mib", "4096", 1, "max-message-mib 4096 is outside [1, 2047]"},
      {"--threads", "many", 2, "many"}};
  for (const auto& [flag, value, code, text] : cases) {
    SCOPED_TRACE(absl::StrCat(flag, " ", value));
    ChildProcess::Options options;
    options.arguments = {kServer, flag, value};
    options.log_path = absl::StrCat(::testing::TempDir(), "/refused.", ::getpid());
    auto server = ChildProcess::Spawn(options);
    ASSERT_TRUE(server.ok()) << server.status();
    const absl::optional<ProcessExit> exit = (*server)->Wait(absl::Minutes(1));
    ASSERT_TRUE(exit.has_value());
    EXPECT_EQ(exit->code, code);
    const std::string said = LastLines(options.log_path, 100);
    ::unlink(options.log_path.c_str());
    EXPECT_EQ(said.rfind("myriad-server: ", 0), 0u) << said;
    EXPECT_NE(said.find(text), std::string::npos) << said;
    EXPECT_LE(std::count(said.begin(), said.end(), '\n'), 1) << said;
  }
}

class BenchTest : public ::testing::TestWithParam<Placement> {};
INSTANTIATE_TEST_SUITE_P(Placements, BenchTest, ::testing::Values(Placement::kShard, Placement::kWorker), [](const auto& info) {
  return info.param == Placement::kShard ? std::string("AtShard") : std::string("AtWorker");
});

TEST_P(BenchTest, ASmallRunWritesEveryFigure) {
  for (int64_t classes : {int64_t{500}, int64_t{100000000}}) {
    SCOPED_TRACE(absl::StrCat(classes, " classes"));
    BenchHeadOptions options;
    options.classes = classes;
    options.dim = 32;
    options.batch = 8;
    options.samples = 256;
    options.steps = 4;
    options.warmup_steps = 2;
    options.shards = 2;
    options.placement = GetParam();
    options.server_binary = kServer;
    options.json_path = absl::StrCat(::testing::TempDir(), "/bench.", ::getpid(), ".json");
    std::ostringstream table;
    ASSERT_EQ(RunBenchHead(options, table), absl::OkStatus());
    EXPECT_NE(table.str().find("step / products"), std::string::npos) << table.str();

    std::ifstream file(options.json_path);
    const nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(json.is_object());
    for (const char* key : {"step_seconds_median", "step_seconds_min", "step_seconds_p99", "gemm_seconds", "gemm_gflops",
                            "server_peak_rss_bytes", "rows_touched", "wire_bytes_per_step", "reserve_seconds"}) {
      ASSERT_TRUE(json.contains(key)) << key;
      EXPECT_GT(json[key].get<double>(), 0.0) << key;
    }
    EXPECT_EQ(json["classes"], classes);
    EXPECT_LE(json["step_seconds_min"], json["step_seconds_median"]);
    EXPECT_LE(json["step_seconds_median"], json["step_seconds_p99"]);
    if (classes == 500) {
      EXPECT_EQ(json["rows_touched"], 500);
    } else {
      // Six steps of 256 draws, and as good as never a class twice.
      EXPECT_NEAR(json["rows_touched"].get<double>(), 6 * (256 + 8), 30);
      EXPECT_NEAR(json["rows_per_step"].get<double>(), 256 + 8, 4);
    }
    if (GetParam() == Placement::kShard) {
      const double payload = 2.0 * (2 * 8 * 32 * 4) + 2 * 8 * 8;  // Embeddings there and gradients back, labels; each of two shards.
      EXPECT_GE(json["wire_bytes_per_step"].get<double>(), payload);
      EXPECT_LE(json["wire_bytes_per_step"].get<double>(), payload + 2 * 300);
    }
    ::unlink(options.json_path.c_str());
  }
}

TEST_P(BenchTest, AStopBetweenStepsEndsIt) {
  BenchHeadOptions options;
  options.classes = 500;
  options.dim = 4;
  options.batch = 2;
  options.samples = 8;
  options.steps = 1 << 30;
  options.placement = GetParam();
  options.server_binary = kServer;
  options.json_path = absl::StrCat(::testing::TempDir(), "/stopped.", ::getpid(), ".json");
  int asked = 0;
  options.should_stop = [&asked] { return ++asked > 200; };
  std::ostringstream table;
  EXPECT_EQ(RunBenchHead(options, table).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(table.str(), "");
  EXPECT_NE(::access(options.json_path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace myriad
