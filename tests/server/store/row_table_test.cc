#include "server/store/row_table.h"

#include <algorithm>
#include <random>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

// Whatever is inserted in whatever portions, the table is a map.
TEST(RowTableTest, FindsWhatWasInsertedAndNothingElse) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 rng(seed);
    RowTable table;
    std::unordered_map<int64_t, uint32_t> model;
    // Ids in a row, spread over 2^40, or far apart by a power of two: what a poor hash would pile up.
    const int64_t stride = seed % 3 == 0 ? 1 : seed % 3 == 1 ? 4096 : 0;
    while (model.size() < 20000) {
      std::vector<int64_t> ids;
      for (uint32_t i = rng() % 3000; i > 0; --i) {
        const int64_t id =
            stride == 0 ? static_cast<int64_t>(rng() % (int64_t{1} << 40)) : stride * static_cast<int64_t>(model.size() + ids.size());
        if (model.count(id) == 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
      }
      table.ReserveFor(ids);
      for (int64_t id : ids) {
        EXPECT_EQ(table.Find(id), RowTable::kNone);
        const uint32_t record = model.size();
        table.Insert(id, record);
        model[id] = record;
      }
    }
    EXPECT_EQ(table.size(), model.size());
    for (const auto& [id, record] : model) ASSERT_EQ(table.Find(id), record);
    for (int i = 0; i < 10000; ++i) {
      const int64_t id = rng() % (int64_t{1} << 40);
      ASSERT_EQ(table.Find(id) == RowTable::kNone, model.count(id) == 0);
    }
    size_t visited = 0;
    table.ForEach([&](int64_t id, uint32_t record) {
      ++visited;
      ASSERT_EQ(model.at(id), record);
    });
    EXPECT_EQ(visited, model.size());
  }
}

TEST(RowTableTest, ErasingLeavesAllOthersToBeFound) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937_64 rng(seed);
    RowTable table;
    std::unordered_map<int64_t, uint32_t> model;
    for (int round = 0; round < 30000; ++round) {
      // Few ids, so that the same come and go many times and probes run round the ends of segments.
      const int64_t id = static_cast<int64_t>(rng() % 20000);
      if (model.count(id) == 1) {
        table.Erase(id);
        model.erase(id);
      } else {
        table.ReserveFor({id});
        table.Insert(id, round);
        model[id] = round;
      }
    }
    EXPECT_EQ(table.size(), model.size());
    for (int64_t id = 0; id < 20000; ++id) {
      const auto found = model.find(id);
      ASSERT_EQ(table.Find(id), found == model.end() ? RowTable::kNone : found->second) << id;
    }
  }
}

TEST(RowTableTest, ReservedRoomIsUsedWithoutGrowth) {
  RowTable table;
  table.Reserve(100000);
  std::vector<int64_t> id(1);
  for (id[0] = 0; id[0] < 100000; ++id[0]) {
    table.ReserveFor(id);
    table.Insert(id[0], id[0]);
  }
  for (int64_t i = 0; i < 100000; ++i) ASSERT_EQ(table.Find(i), i);
}

}  // namespace
}  // namespace myriad
