#include "worker/trace.h"

#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace myriad {
namespace {

TEST(TraceTest, WritesSpansInMicrosecondsFromTheFirst) {
  Trace trace;
  trace.Add({"backward", Trace::kWorkerTrack, 5000, 9000, 2, 0});
  trace.Add({"reduce bucket 0", Trace::kReductionTrack, 6000, 8500, 2, 4096});
  trace.Add({"forward", Trace::kWorkerTrack, 3000, 5000, 2, 0});
  const std::string path = testing::TempDir() + "trace.json";
  ASSERT_TRUE(trace.WriteChromeJson(1, path).ok());
  std::ifstream file(path);
  const nlohmann::json events = nlohmann::json::parse(file)["traceEvents"];
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["name"], "backward");
  EXPECT_EQ(events[0]["ts"], 2.0);
  EXPECT_EQ(events[0]["dur"], 4.0);
  EXPECT_EQ(events[0]["pid"], 1);
  EXPECT_EQ(events[1]["tid"], Trace::kReductionTrack);
  EXPECT_EQ(events[1]["args"]["bytes"], 4096);
  EXPECT_EQ(events[1]["args"]["step"], 2);
  EXPECT_EQ(events[2]["ts"], 0.0);
}

TEST(TraceTest, KeepsTheFirstSpansWhenFull) {
  Trace trace(2);
  for (int i = 0; i < 5; ++i) trace.Add({"span", 0, i, i + 1, i, 0});
  ASSERT_EQ(trace.spans().size(), 2u);
  EXPECT_EQ(trace.spans()[1].step, 1);
}

TEST(TraceTest, AFileThatCannotBeWrittenIsNamed) {
  const absl::Status status = Trace().WriteChromeJson(0, "/nonexistent/trace.json");
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("/nonexistent"), std::string::npos);
}

}  // namespace
}  // namespace myriad
