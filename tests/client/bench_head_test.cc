#include "client/bench_head.h"

#include <sstream>

#include "client/gemm_reference.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

absl::Status RunWithoutServer(BenchHeadOptions options) {
  options.server_binary = "/nowhere/myriad-server";
  std::ostringstream out;
  absl::Status status = RunBenchHead(options, out);
  EXPECT_EQ(out.str(), "");
  return status;
}

TEST(BenchHeadTest, OptionsOutOfRangeAreRefusedBeforeAServerStarts) {
  const auto message_of = [](void (*change)(BenchHeadOptions*)) {
    BenchHeadOptions options;
    change(&options);
    const absl::Status status = RunWithoutServer(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(message_of([](BenchHeadOptions* o) { o->batch = 0; }), "--batch is 0; at least 1");
  EXPECT_EQ(message_of([](BenchHeadOptions* o) { o->steps = 0; }), "--steps is 0; at least 1");
  EXPECT_EQ(message_of([](BenchHeadOptions* o) { o->shards = -1; }), "--shards is -1; at least 1");
  EXPECT_NE(message_of([](BenchHeadOptions* o) { o->classes = 0; }), "");
  EXPECT_NE(message_of([](BenchHeadOptions* o) { o->samples = o->classes + 1; }), "");
  EXPECT_NE(message_of([](BenchHeadOptions* o) {
              o->optimizer = OptimizerKind::kAdamW;
              o->idle_update = IdleUpdate::kExact;
            }),
            "");
}

TEST(BenchHeadTest, AFileThatCannotBeWrittenIsToldBeforeAServerStarts) {
  BenchHeadOptions options;
  options.json_path = "/nowhere/out.json";
  EXPECT_EQ(RunWithoutServer(options), absl::NotFoundError("/nowhere: No such file or directory"));
  options.json_path = "/tmp";
  EXPECT_EQ(RunWithoutServer(options), absl::FailedPreconditionError("/tmp: Is a directory"));
}

TEST(BenchHeadTest, AMissingServerIsNamed) {
  const absl::Status status = RunWithoutServer(BenchHeadOptions());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("/nowhere/myriad-server"), std::string::npos) << status;
}

TEST(GemmReferenceTest, TheMedianIsOverAllRunsOfTheBetterLayout) {
  GemmReference gemm(/*rows=*/300, /*batch=*/8, /*dim=*/16);
  gemm.Run(3);
  gemm.Run(2);
  const GemmReference::Result result = gemm.Median();
  EXPECT_EQ(result.runs, 5);
  EXPECT_GT(result.seconds, 0.0);
  EXPECT_DOUBLE_EQ(result.gflops, 6.0 * 300 * 8 * 16 / result.seconds / 1e9);
  EXPECT_TRUE(result.layout == "class-major" || result.layout == "batch-major") << result.layout;
}

}  // namespace
}  // namespace myriad
