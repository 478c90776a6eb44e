#include "client/query_stats.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <sstream>
#include <vector>

#include <nlohmann/json.hpp>

#include "client/run_shards.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/server/shard_stubs.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

// Two shards with a disk that have trained some steps over all classes.
class QueryStatsTest : public ::testing::Test {
 protected:
  static constexpr int64_t kClasses = 3000;
  static constexpr int64_t kSteps = 5;

  QueryStatsTest() {
    std::vector<MyriadServer::Options> options(2, ShardCluster::Defaults());
    for (int k = 0; k < 2; ++k) {
      options[k].store = dir_.File("shard-" + std::to_string(k));
      options[k].memory_bytes = int64_t{200} << 20;
    }
    cluster_ = std::make_unique<ShardCluster>(options);
    options_.query.shards = cluster_->addresses();
    std::vector<std::unique_ptr<ShardStubs>> stubs;
    v1::OpenHeadRequest open;
    for (int k = 0; k < 2; ++k) {
      stubs.push_back(std::make_unique<ShardStubs>(cluster_->addresses()[k]));
      open = MakeOpen("faces", kClasses, 8, cluster_->addresses(), k, 1);
      open.mutable_training()->mutable_uniform()->set_sample_count(200);
      EXPECT_TRUE(stubs[k]->Open(open).ok());
    }
    for (int64_t step = 0; step < kSteps; ++step) {
      const v1::HeadStepRequest request = MakeStep(open, step, 0, {7, 8, step}, 1);
      auto other = stubs[1]->StepAsync(request);
      EXPECT_TRUE(stubs[0]->Step(request).ok());
      EXPECT_TRUE(other.get().ok());
    }
    // A step is answered before its rows are put back, and statistics do not wait for that: a read of rows does.
    for (const std::string& address : cluster_->addresses()) Norms(address);
  }

  // Of all rows of a shard, ascending.
  static std::vector<double> Norms(const std::string& address) {
    std::vector<double> norms;
    const auto messages = ShardStubs(address).ReadRows("faces", /*with_slots=*/false);
    EXPECT_TRUE(messages.ok()) << messages.status();
    for (const v1::ReadRowsResponse& message : *messages) {
      const auto* numbers = reinterpret_cast<const float*>(message.centers().data().data());
      for (int64_t row = 0; row < message.centers().rows(); ++row, numbers += 8) {
        double square = 0;
        for (int d = 0; d < 8; ++d) square += static_cast<double>(numbers[d]) * numbers[d];
        norms.push_back(std::sqrt(square));
      }
    }
    std::sort(norms.begin(), norms.end());
    return norms;
  }

  TempDir dir_;
  std::unique_ptr<ShardCluster> cluster_;
  StatsOptions options_;
};

TEST_F(QueryStatsTest, TellsWhereTheRowsAre) {
  options_.query.json = true;
  options_.coverage = true;
  std::ostringstream out;
  const absl::Status status = QueryStats(options_, out);
  ASSERT_TRUE(status.ok()) << status;
  const auto json = nlohmann::json::parse(out.str());
  ASSERT_EQ(json["heads"].size(), 2u);
  int64_t found = 0, created = 0, rows = 0, classes = 0, moved = 0, watched = 0, never_positive = 0;
  for (const auto& head : json["heads"]) {
    EXPECT_EQ(head["committed_steps"], kSteps);
    found += head["rows"]["hits"].get<int64_t>();
    created += head["rows"]["created"].get<int64_t>();
    EXPECT_EQ(head["rows"]["misses"], 0);
    EXPECT_EQ(head["rows"]["memory_rows"], head["row_count"]);
    EXPECT_EQ(head["rows"]["dirty_rows"], head["row_count"]);
    rows += head["row_count"].get<int64_t>();
    const auto& coverage = head["coverage"];
    classes += coverage["class_count"].get<int64_t>();
    EXPECT_EQ(coverage["sampled_rows"], head["row_count"]) << "so few rows are all looked at";
    for (const int64_t count : coverage["steps_since_moved"]) moved += count;
    watched += coverage["watched_classes"].get<int64_t>();
    never_positive += coverage["never_positive"].get<int64_t>();
    const std::vector<double> norms = Norms(head["shard"].get<std::string>());
    EXPECT_NEAR(coverage["norm_quantiles"][0].get<double>(), norms.front(), 1e-6);
    EXPECT_NEAR(coverage["norm_quantiles"][6].get<double>(), norms.back(), 1e-5);
  }
  EXPECT_EQ(created, rows);
  EXPECT_GE(found + created, kSteps * 200);
  EXPECT_EQ(classes, kClasses);
  EXPECT_EQ(moved, rows);
  EXPECT_EQ(watched, kClasses);
  EXPECT_EQ(never_positive, kClasses - 7);  // 0 to 4, 7 and 8.
}

TEST_F(QueryStatsTest, TextNamesEachShard) {
  std::ostringstream out;
  ASSERT_TRUE(QueryStats(options_, out).ok());
  for (const std::string& address : cluster_->addresses()) EXPECT_THAT(out.str(), HasSubstr("head faces on " + address));
}

TEST_F(QueryStatsTest, ARunThatGoesOnIsAskedByItsFolder) {
  options_.query.shards.clear();
  options_.query.run_dir = dir_.path();
  std::ostringstream out;
  EXPECT_EQ(QueryStats(options_, out).code(), absl::StatusCode::kFailedPrecondition) << "no run goes on";
  const auto run = RunShards::Announce(dir_.path(), cluster_->addresses());
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_TRUE(QueryStats(options_, out).ok());
  EXPECT_THAT(out.str(), HasSubstr("head faces on " + cluster_->addresses()[1]));
}

TEST_F(QueryStatsTest, AServerThatIsGoneIsToldAtOnce) {
  options_.query.timeout = absl::Hours(1);
  cluster_->Stop(1);
  std::ostringstream out;
  const absl::Status status = QueryStats(options_, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(cluster_->addresses()[1] + "): cannot be reached"));
}

TEST_F(QueryStatsTest, WrongCallsSayWhatIsWrong) {
  std::ostringstream out;
  options_.query.head = "nobody";
  EXPECT_TRUE(absl::IsNotFound(QueryStats(options_, out)));
  options_.query.shards.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(QueryStats(options_, out)));
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace myriad
