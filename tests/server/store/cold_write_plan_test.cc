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

TEST(ColdWritePlanTest, EachRecordOnceInOrderAndPartitionsOfStretchesByThemselves) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 random(seed);
    const int64_t value_bytes = 1 + static_cast<int64_t>(random() % 8000);
    const int64_t run_bytes = static_cast<int64_t>(random() % (4 << 20));
    std::map<uint64_t, int64_t> count_of, stretches_of;  // By partition.
    std::vector<uint64_t> keys;
    for (uint64_t partition = 0; partition < 50; partition += 1 + random() % 3) {
      const uint64_t count = random() % 3 == 0 ? 1 + random() % 200 : 1 + random() % 3;
      const uint64_t gap_every = 1 + random() % 60;
      uint64_t index = 0;
      for (uint64_t i = 0; i < count; ++i) {
        const bool is_gap = i > 0 && random() % gap_every == 0;
        index += is_gap ? 2 + random() % 5 : 1;
        keys.push_back(partition << kRowKeyIndexBits | index);
        stretches_of[partition] += is_gap || i == 0;
      }
      count_of[partition] = static_cast<int64_t>(count);
    }
    const std::vector<uint64_t> sorted = keys;
    std::shuffle(keys.begin(), keys.end(), random);
    const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
    const ColdWritePlan plan = PlanColdWrite(records, value_bytes, run_bytes, 8 << 20);
    const std::vector<uint64_t> stretches = KeysOf(plan.stretches), scattered = KeysOf(plan.scattered);
    EXPECT_TRUE(std::is_sorted(stretches.begin(), stretches.end()));
    EXPECT_TRUE(std::is_sorted(scattered.begin(), scattered.end()));
    std::vector<uint64_t> all;
    std::merge(stretches.begin(), stretches.end(), scattered.begin(), scattered.end(), std::back_inserter(all));
    EXPECT_EQ(all, sorted);
    const auto qualifies = [&](uint64_t partition) {
      return count_of.at(partition) * value_bytes >= std::min(kLeastPartitionBytes, run_bytes) &&
             count_of.at(partition) >= stretches_of.at(partition) * kLeastStretch;
    };
    int64_t bytes = 0;
    for (const auto& [partition, count] : count_of) bytes += qualifies(partition) ? count * value_bytes : 0;
    EXPECT_EQ(static_cast<int64_t>(stretches.size()) * value_bytes, bytes >= run_bytes ? bytes : 0);
    for (const uint64_t key : stretches) EXPECT_TRUE(qualifies(key >> kRowKeyIndexBits));
  }
}

TEST(ColdWritePlanTest, APartitionThatLeavesAPoolGoesApartFromPositives) {
  std::vector<uint64_t> keys;
  for (uint64_t i = 0; i < 2441; ++i) keys.push_back(uint64_t{70} << kRowKeyIndexBits | i);
  for (uint64_t i = 0; i < 600; ++i) keys.push_back((i * 6) << kRowKeyIndexBits | 5000);
  const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
  const ColdWritePlan plan = PlanColdWrite(records, 2064, 1 << 20, 8 << 20);
  EXPECT_EQ(plan.stretches.size(), 2441u);
  EXPECT_EQ(plan.scattered.size(), 600u);
  EXPECT_TRUE(plan.past_memtables);
}

TEST(ColdWritePlanTest, ScatteredRecordsThatFillAMemtablePassItBy) {
  std::vector<uint64_t> keys;
  for (int64_t i = 0; i < (8 << 20) / 2064 + 1; ++i) keys.push_back(static_cast<uint64_t>(i) << kRowKeyIndexBits);
  const std::vector<ColdStore::Encoded> records = RecordsAt(keys);
  EXPECT_TRUE(PlanColdWrite(records, 2064, 1 << 20, 8 << 20).past_memtables);
  EXPECT_FALSE(PlanColdWrite(absl::MakeConstSpan(records).subspan(2), 2064, 1 << 20, 8 << 20).past_memtables);
  EXPECT_FALSE(PlanColdWrite(records, 2064, int64_t{1} << 40, 8 << 20).past_memtables);
}

}  // namespace
}  // namespace myriad
