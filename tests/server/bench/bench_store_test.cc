#include "server/bench/bench_store.h"

#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

BenchStoreOptions SmallOptions(const std::string& folder) {
  BenchStoreOptions options;
  options.folder = folder;
  options.rows = 20000;
  options.dim = 16;
  options.fetch_rows = 500;
  options.partitions = 32;
  options.rounds = 2;
  options.hot_rows = 2000;
  options.churn = 0.5;
  return options;
}

// What it measures is for the reader; that the rows were right it checks itself.
TEST(BenchStoreTest, MeasuresEachWayToTheDiskAndLeavesNothingBehind) {
  TempDir dir;
  BenchStoreOptions options = SmallOptions(dir.path());
  options.json_path = dir.File("out.json");
  std::ostringstream out;
  const absl::Status status = RunBenchStore(options, out);
  ASSERT_TRUE(status.ok()) << status;
  const auto json = nlohmann::json::parse(ReadText(options.json_path));
  for (const char* name : {"random fetch", "partition fetch", "partition write-back", "hot read", "hot update"}) {
    EXPECT_GT(json["measured"][name]["rows_per_second"].get<double>(), 0.0) << name;
    EXPECT_GT(json["measured"][name]["bound_rows_per_second"].get<double>(), 0.0) << name;
  }
  EXPECT_EQ(json["measured"]["random fetch"]["rows"], 500);
  EXPECT_GT(json["measured"]["partition write-back"]["processors_at_work"].get<double>(), 0.0);
  // A byte of data is written once when rows are loaded; small records have large keys.
  EXPECT_LT(json["ingest_written_ratio"].get<double>(), 2.0);
  EXPECT_GE(json["write_amplification"]["rows from anywhere"]["written_per_accepted"].get<double>(), 1.0);
  EXPECT_LE(json["memory_bytes"], json["memory_bound_bytes"]);
  EXPECT_EQ(dir.CountEntries(), 1);
}

TEST(BenchStoreTest, AFolderInUseAndWrongSizesAreRefused) {
  TempDir dir;
  std::ostringstream out;
  BenchStoreOptions options = SmallOptions(dir.path());
  options.fetch_rows = options.rows + 1;
  EXPECT_EQ(RunBenchStore(options, out).code(), absl::StatusCode::kInvalidArgument);
  options = SmallOptions(dir.File("nowhere"));
  EXPECT_EQ(RunBenchStore(options, out).code(), absl::StatusCode::kInvalidArgument);
  options = SmallOptions(dir.path());
  std::filesystem::create_directory(dir.File("bench-store"));
  EXPECT_EQ(RunBenchStore(options, out).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace myriad
