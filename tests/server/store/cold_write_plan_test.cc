#include "server/store/cold_write_plan.h"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/store/row_key.h"

namespace myriad {
namespace {

std::vector<ColdStore::Encoded> RecordsAt(const std::vector<uint64_t>& keys) {
  std::vector<ColdStore::Encoded> records;
  for (const uint64_t key : keys) records.push_back({key, {}});
  return records;
}

std::vector<uint64_t> KeysOf(const std::vector<ColdStore::Encoded>& records) {
  std::vector<uint64_t> keys;
  for (const ColdStore::Encoded& record : records) keys.push_back(record.key);
  return keys;
}

TEST(ColdWritePlanTest, EachRecordOnceInOrderAndTheRunOfWholePartitions) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 random(seed);
    const int64_t value_bytes = 1 + static_cast<int64_t>(random() % 8000);
    const int64_t run_bytes = static_cast<int64_t>(random() % (4 << 20));
    std::map<uint64_t, int64_t> count_of;  // By partition.
    std::vector<uint64_t> keys;
    for (uint64_t partition = 0; partition < 50; partition += 1 + random() % 3) {
      const uint64_t count = random() % 3 == 0 ? 1 + random() % 200 : 1 + random() % 3;
      for (uint64_t i = 0; i < count; ++i) keys.push_back(partition << kRowKeyIndexBits | i * 7);
      count_of[partition] = static_cast<int64_t>(count);
    }
    const std::vector<uint64_t> sorted = keys;
    std::shuffle(keys.begin(), keys.end(), random);
    const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
    const ColdWritePlan plan = PlanColdWrite(records, value_bytes, run_bytes, 8 << 20);
    const std::vector<uint64_t> run = KeysOf(plan.run), scattered = KeysOf(plan.scattered);
    EXPECT_TRUE(std::is_sorted(run.begin(), run.end()));
    EXPECT_TRUE(std::is_sorted(scattered.begin(), scattered.end()));
    std::vector<uint64_t> all;
    std::merge(run.begin(), run.end(), scattered.begin(), scattered.end(), std::back_inserter(all));
    EXPECT_EQ(all, sorted);
    int64_t whole_bytes = 0;
    for (const auto& [partition, count] : count_of) whole_bytes += count * value_bytes >= kLeastPartitionBytes ? count * value_bytes : 0;
    EXPECT_EQ(static_cast<int64_t>(run.size()) * value_bytes, whole_bytes >= run_bytes ? whole_bytes : 0);
    for (const uint64_t key : run) EXPECT_GE(count_of.at(key >> kRowKeyIndexBits) * value_bytes, kLeastPartitionBytes);
  }
}

TEST(ColdWritePlanTest, APartitionThatLeavesAPoolGoesApartFromPositives) {
  std::vector<uint64_t> keys;
  for (uint64_t i = 0; i < 2441; ++i) keys.push_back(uint64_t{70} << kRowKeyIndexBits | i);
  for (uint64_t i = 0; i < 600; ++i) keys.push_back((i * 6) << kRowKeyIndexBits | 5000);
  const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
  const ColdWritePlan plan = PlanColdWrite(records, 2064, 1 << 20, 8 << 20);
  EXPECT_EQ(plan.run.size(), 2441u);
  EXPECT_EQ(plan.scattered.size(), 600u);
  EXPECT_FALSE(plan.scattered_as_run);
}

TEST(ColdWritePlanTest, ScatteredRecordsThatFillAMemtablePassItBy) {
  std::vector<uint64_t> keys;
  for (int64_t i = 0; i < (8 << 20) / 2064 + 1; ++i) keys.push_back(static_cast<uint64_t>(i) << kRowKeyIndexBits);
  const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
  EXPECT_TRUE(PlanColdWrite(records, 2064, 1 << 20, 8 << 20).scattered_as_run);
  EXPECT_FALSE(PlanColdWrite(absl::MakeConstSpan(records).subspan(2), 2064, 1 << 20, 8 << 20).scattered_as_run);
  EXPECT_FALSE(PlanColdWrite(records, 2064, int64_t{1} << 40, 8 << 20).scattered_as_run);
}

}  // namespace
}  // namespace myriad
