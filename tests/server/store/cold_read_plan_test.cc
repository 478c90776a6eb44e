#include "server/store/cold_read_plan.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

std::vector<ColdStore::Target> TargetsAt(const std::vector<uint64_t>& keys) {
  std::vector<ColdStore::Target> targets;
  for (const uint64_t key : keys) targets.push_back({key, nullptr, 0});
  return targets;
}

TEST(ColdReadPlanTest, EveryTargetIsInOnePart) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 random(seed);
    const int64_t value_bytes = 1 + static_cast<int64_t>(random() % 5000);
    std::vector<uint64_t> keys;
    uint64_t key = 0;
    for (uint64_t left = random() % 3000; left > 0; --left) {
      key += random() % 50 == 0 ? 1 + random() % 1000000 : 1 + random() % 2;
      keys.push_back(key);
    }
    const std::vector<ColdStore::Target> targets = TargetsAt(keys);
    int64_t end = 0;
    for (const ColdReadPart& part : PlanColdRead(targets, value_bytes, /*most_together=*/seed % 4 == 0 ? 0
                                                                       : seed % 4 == 1                 ? 1000
                                                                                                       : kColdRecordsTogether)) {
      ASSERT_EQ(part.begin, end);
      ASSERT_GT(part.end, part.begin);
      end = part.end;
      if (part.together) {
        // What is read, wanted or not, is bounded.
        EXPECT_LE(static_cast<int64_t>(keys[part.end - 1] - keys[part.begin] + 1) * value_bytes, kColdRangeBytes + value_bytes);
        EXPECT_NE(seed % 4, 0);
        EXPECT_LE(part.end - part.begin, seed % 4 == 1 ? 1000 : kColdRecordsTogether);
      } else {
        EXPECT_LE(part.end - part.begin, kColdRecordsApart);
      }
    }
    EXPECT_EQ(end, static_cast<int64_t>(keys.size()));
  }
}

TEST(ColdReadPlanTest, APartitionIsReadInRangesAndScatteredRowsOneByOne) {
  std::vector<uint64_t> together, apart;
  for (uint64_t i = 0; i < 2441; ++i) together.push_back(uint64_t{7} << 40 | i);
  for (uint64_t i = 0; i < 2441; ++i) apart.push_back(i * 600);
  for (const ColdReadPart& part : PlanColdRead(TargetsAt(together), 2064, kColdRecordsTogether)) {
    EXPECT_TRUE(part.together || part.begin >= 2441 / kColdRecordsTogether * kColdRecordsTogether) << part.begin;
  }
  for (const ColdReadPart& part : PlanColdRead(TargetsAt(apart), 2064, kColdRecordsTogether)) EXPECT_FALSE(part.together);
}

}  // namespace
}  // namespace myriad
