#include "server/store/tiered_row_store.h"

#include <sys/resource.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "head/virtual_rows.h"
#include "tests/testing/server/change_rows.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

HeadSpec Head(int64_t classes, int dim) {
  HeadSpec head;
  head.name = "test";
  head.class_count = classes;
  head.embedding_dim = dim;
  head.seed = 5;
  return head;
}

// A store without a disk.
class MemoryStore : public TieredRowStore {
 public:
  explicit MemoryStore(const HeadSpec& head, int64_t max_rows = 0) : MemoryStore(OptionsOf(head, max_rows)) {}
  explicit MemoryStore(const Options& options)
      : TieredRowStore(
            options, nullptr,
            std::make_unique<PresenceBitmap>(Partitions(options.head.class_count, options.head.seed, options.head.partition_count), 0, 1)) {
  }

 private:
  static Options OptionsOf(const HeadSpec& head, int64_t max_rows) {
    Options options;
    options.head = head;
    options.max_rows = max_rows;
    return options;
  }
};

struct Row {
  std::vector<float> weights, slots;
  int exists = 0;
  int64_t last_step = 0;
};

Row ReadRow(const RowStore& store, int dim, int64_t class_id) {
  Row row;
  row.weights.resize(dim);
  row.slots.resize(dim);
  uint8_t exists = 2;
  EXPECT_TRUE(store.Read({class_id}, row.weights.data(), row.slots.data(), &exists, &row.last_step).ok());
  row.exists = exists;
  return row;
}

std::vector<float> VirtualRow(const HeadSpec& head, int64_t class_id) {
  std::vector<float> row(head.embedding_dim);
  FillVirtualRow(head, class_id, row.data());
  return row;
}

TEST(RowsInMemoryTest, AVirtualRowReadsAsItsValueAndTakesNoRoom) {
  const HeadSpec head = Head(int64_t{1} << 40, 7);
  MemoryStore store(head);
  for (int64_t class_id : {int64_t{0}, int64_t{12345}, (int64_t{1} << 40) - 1}) {
    const Row row = ReadRow(store, 7, class_id);
    EXPECT_EQ(row.weights, VirtualRow(head, class_id));
    EXPECT_EQ(row.slots, std::vector<float>(7, 0.0f));
    EXPECT_EQ(row.exists, 0);
    EXPECT_EQ(row.last_step, -1);
  }
  EXPECT_EQ(store.row_count(), 0);
}

TEST(RowsInMemoryTest, RowsExistFromTheCommitOn) {
  const HeadSpec head = Head(1000, 7);
  MemoryStore store(head);
  const std::vector<int64_t> ids = {7, 3, 999};
  RowStore::PinFigures figures;
  ASSERT_TRUE(store.Pin(/*step=*/42, ids, &figures).ok());
  ASSERT_EQ(store.pinned_rows().count(), 3);
  ChangeRows(&store, [&](int64_t i, float* weights, float* slots) {
    EXPECT_EQ(std::vector<float>(weights, weights + 7), VirtualRow(head, ids[i]));
    EXPECT_EQ(std::vector<float>(slots, slots + 7), std::vector<float>(7, 0.0f));
    weights[0] = 10.0f + i;
    slots[6] = 20.0f + i;
  });
  EXPECT_EQ(store.row_count(), 0);
  store.Commit();
  EXPECT_EQ(store.pinned_rows().count(), 0);
  EXPECT_EQ(store.row_count(), 3);
  for (size_t i = 0; i < ids.size(); ++i) {
    const Row row = ReadRow(store, 7, ids[i]);
    EXPECT_EQ(row.weights[0], 10.0f + i);
    EXPECT_EQ(row.slots[6], 20.0f + i);
    EXPECT_EQ(row.exists, 1);
    EXPECT_EQ(row.last_step, 42);
  }
}

TEST(RowsInMemoryTest, UnpinnedRowsAreVirtualAgainAndTheirRecordsServeOthers) {
  const HeadSpec head = Head(1000, 7);
  MemoryStore store(head);
  RowStore::PinFigures figures;
  ASSERT_TRUE(store.Pin(0, {1, 2}, &figures).ok());
  ChangeRows(&store, [](int64_t, float*, float* slots) { slots[0] = 5.0f; });
  store.Unpin();
  store.Unpin();
  EXPECT_EQ(ReadRow(store, 7, 1).exists, 0);
  ASSERT_TRUE(store.Pin(0, {3, 4, 1}, &figures).ok());
  ChangeRows(&store, [](int64_t, float*, float* slots) { EXPECT_EQ(slots[0], 0.0f) << "slots of a record that was given back"; });
  store.Commit();
  EXPECT_EQ(ReadRow(store, 7, 1).weights, VirtualRow(head, 1));
}

int64_t PageFaults(int who) {
  rusage usage;
  getrusage(who, &usage);
  return usage.ru_minflt;
}

// Who writes to fresh memory first takes its page faults.
TEST(RowsInMemoryTest, RowsAreMadeByAllThreads) {
  const HeadSpec head = Head(100000, 512);
  MemoryStore store(head);
  std::vector<int64_t> ids(25600);
  std::iota(ids.begin(), ids.end(), 0);
  at::set_num_threads(5);
  const std::unique_ptr<float[]> weights(new float[ids.size() * 512]);
  const int64_t before = PageFaults(RUSAGE_SELF), own_before = PageFaults(RUSAGE_THREAD);
  ASSERT_TRUE(store.Read(ids, weights.get(), nullptr, nullptr, nullptr).ok());
  const int64_t faults = PageFaults(RUSAGE_SELF) - before, own = PageFaults(RUSAGE_THREAD) - own_before;
  EXPECT_GE(faults, 25);  // Huge pages.
  EXPECT_LT(own, faults / 2) << "the calling thread alone has made the rows";
}

// Pins, commits, aborts and writes in any order leave what a plain map would hold.
TEST(RowsInMemoryTest, BehavesAsAMapUnderAnyUse) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed = ", seed));
    std::mt19937 rng(seed);
    const int dim = 1 + rng() % 20;
    const HeadSpec head = Head(2000, dim);
    MemoryStore store(head);
    std::map<int64_t, std::pair<float, int64_t>> model;  // First weight and last step.
    for (int64_t step = 0; step < 60; ++step) {
      std::set<int64_t> set;
      for (uint32_t n = rng() % 50; n > 0; --n) set.insert(rng() % head.class_count);
      std::vector<int64_t> ids(set.begin(), set.end());
      if (rng() % 4 == 0) {
        std::vector<float> weights(ids.size() * dim, step + 0.25f);
        ASSERT_TRUE(store.Write(ids, weights.data(), nullptr).ok());
        for (int64_t id : ids) model[id] = {step + 0.25f, -1};
        continue;
      }
      std::shuffle(ids.begin(), ids.end(), rng);
      RowStore::PinFigures figures;
      ASSERT_TRUE(store.Pin(step, ids, &figures).ok());
      for (size_t i = 0; i < ids.size(); ++i) {
        const auto found = model.find(ids[i]);
        ASSERT_EQ(store.pinned_rows().Weights(i, nullptr)[0], found == model.end() ? VirtualRow(head, ids[i])[0] : found->second.first);
      }
      if (rng() % 3 == 0) {
        store.Unpin();
        continue;
      }
      ChangeRows(&store, [&](int64_t i, float* weights, float*) {
        weights[0] = step + i * 0.001f;
        model[ids[i]] = {weights[0], step};
      });
      store.Commit();
    }
    EXPECT_EQ(store.row_count(), model.size());
    for (int64_t id = 0; id < head.class_count; ++id) {
      const Row row = ReadRow(store, dim, id);
      const auto found = model.find(id);
      ASSERT_EQ(row.exists, found != model.end());
      ASSERT_EQ(row.weights[0], found == model.end() ? VirtualRow(head, id)[0] : found->second.first);
      ASSERT_EQ(row.last_step, found == model.end() ? -1 : found->second.second);
    }
  }
}

TEST(RowsInMemoryTest, TheLimitOfRowsIsNamedAndNothingIsPinned) {
  MemoryStore store(Head(1000, 4), 3);
  RowStore::PinFigures figures;
  ASSERT_TRUE(store.Pin(0, {1, 2}, &figures).ok());
  KeepRows(&store);
  store.Commit();
  const absl::Status status = store.Pin(1, {1, 2, 3, 4}, &figures);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("limit of 3 rows (--max-rows)"));
  EXPECT_TRUE(store.Pin(1, {1, 2, 3}, &figures).ok());
  KeepRows(&store);
  store.Commit();
  const float weights[4] = {};
  EXPECT_EQ(store.Write({9}, weights, nullptr).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(store.Write({3}, weights, nullptr).ok());
  EXPECT_EQ(store.Reserve(1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.row_count(), 3);
}

// A step that is refused is given up as any other: Unpin() follows.
TEST(RowsInMemoryTest, AnUnpinAfterARefusedPinDoesNothing) {
  MemoryStore store(Head(1000, 4), 3);
  RowStore::PinFigures figures;
  ASSERT_TRUE(store.Pin(0, {1}, &figures).ok());
  KeepRows(&store);
  store.Commit();
  EXPECT_FALSE(store.Pin(1, {2, 3, 4, 5}, &figures).ok());
  EXPECT_EQ(store.pinned_rows().count(), 0);
  store.Unpin();
  ASSERT_TRUE(store.Pin(1, {6, 7}, &figures).ok());
  ChangeRows(&store, [](int64_t row, float* weights, float*) { weights[0] = row + 6.0f; });
  store.Commit();
  EXPECT_EQ(store.row_count(), 3);
  EXPECT_EQ(ReadRow(store, 4, 1).weights, VirtualRow(Head(1000, 4), 1));
  EXPECT_EQ(ReadRow(store, 4, 6).weights[0], 6.0f);
  EXPECT_EQ(ReadRow(store, 4, 7).weights[0], 7.0f);
}

TEST(RowsInMemoryTest, ReservesRowsAndRefusesMoreThanMemory) {
  MemoryStore store(Head(int64_t{1} << 40, 512));
  ASSERT_TRUE(store.Reserve(1000).ok());
  EXPECT_EQ(store.reserved_row_count(), 1000);
  EXPECT_EQ(store.row_count(), 0);
  EXPECT_EQ(store.Reserve(int64_t{1} << 40).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.Reserve(-1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store.reserved_row_count(), 1000);
}

TEST(RowsInMemoryTest, AsksForTheMemoryOfAllNewRowsAtOnceAndOfThoseAlone) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  int64_t available = 0, asked = 0;
  TieredRowStore::Options options;
  options.head = Head(int64_t{1} << 40, 512);
  options.available_memory = [&] {
    ++asked;
    return available;
  };
  MemoryStore store(options);
  std::vector<int64_t> ids(60000);  // 234 MiB of records: four chunks.
  std::iota(ids.begin(), ids.end(), 0);
  RowStore::PinFigures figures;
  available = 234 * kMiB;
  const absl::Status refused = store.Pin(0, ids, &figures);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("60000 new rows in memory need 301 MiB of memory; 234 MiB are available"));
  EXPECT_EQ(store.Write(ids, std::vector<float>(ids.size() * 512).data(), nullptr).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.Reserve(60000).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.reserved_row_count(), 0) << "no page was touched";
  EXPECT_EQ(asked, 3);

  // Reserved rows, those given back and those that exist are there already.
  available = 64 * kMiB + store.BytesOfNewRows(1000);
  ASSERT_TRUE(store.Reserve(1000).ok());
  available = 0;
  ids.resize(1000);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(store.Pin(0, ids, &figures).ok());
    store.Unpin();
  }
  for (int64_t step = 0; step < 2; ++step) {
    ASSERT_TRUE(store.Pin(step, ids, &figures).ok());
    KeepRows(&store);
    store.Commit();
  }
  EXPECT_EQ(store.Pin(2, {1000}, &figures).code(), absl::StatusCode::kResourceExhausted);
}

TEST(RowsInMemoryTest, ScansExistingRowsByPartitionAndIndexInPortionsOfAnySize) {
  const HeadSpec head = Head(100000, 2);
  MemoryStore store(head);
  std::mt19937 rng(1);
  std::set<int64_t> ids;
  while (ids.size() < 3000) ids.insert(rng() % head.class_count);
  const std::vector<float> weights(ids.size() * 2, 1.0f);
  ASSERT_TRUE(store.Write(std::vector<int64_t>(ids.begin(), ids.end()), weights.data(), nullptr).ok());
  const Partitions partitions(head.class_count, head.seed, head.partition_count);
  std::vector<int64_t> expected(ids.begin(), ids.end());
  std::sort(expected.begin(), expected.end(), [&](int64_t a, int64_t b) {
    const auto pa = partitions.Locate(a), pb = partitions.Locate(b);
    return std::make_pair(int64_t{pa.partition}, pa.index) < std::make_pair(int64_t{pb.partition}, pb.index);
  });
  for (int64_t portion : {1000000, 3000, 999, 7}) {
    SCOPED_TRACE(portion);
    std::vector<int64_t> scanned;
    for (int64_t after = -1;;) {
      const std::vector<int64_t> keys = store.ScanKeys(after, portion);
      for (int64_t key : keys) scanned.push_back(store.ClassOfKey(key));
      if (static_cast<int64_t>(keys.size()) < portion) break;
      after = keys.back();
    }
    EXPECT_EQ(scanned, expected);
  }
}

}  // namespace
}  // namespace myriad
