#include "server/store/tiered_row_store.h"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/server/row_store_model.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int kDim = 19;
constexpr int64_t kClasses = 5003;

HeadSpec Spec(DataType weights, DataType slots) {
  HeadSpec head;
  head.name = "h";
  head.class_count = kClasses;
  head.embedding_dim = kDim;
  head.weight_dtype = weights;
  head.slot_dtype = slots;
  head.seed = 4;
  return head;
}

// A store and, beside it, what it must hold.
class Rig {
 public:
  Rig(const HeadSpec& head, const std::string& folder, int64_t slab_records, int64_t queue_records)
      : head_(head), model_(head), folder_(folder), slab_records_(slab_records), queue_records_(queue_records) {
    Open("");
  }

  TieredRowStore& store() { return *store_; }

  void Reopen() {
    ASSERT_TRUE(store_->Flush().ok());
    const std::string presence = store_->presence().Serialize();
    store_.reset();
    Open(presence);
  }

  void Step(const std::vector<int64_t>& ids, int64_t step, bool commit) {
    const absl::Status status = model_.Step(store_.get(), ids, step, commit);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Write(const std::vector<int64_t>& ids, std::mt19937_64* random) {
    const absl::Status status = model_.Write(store_.get(), ids, random);
    ASSERT_TRUE(status.ok()) << status;
  }
  void StoreVirtualRows() {
    const absl::Status status = model_.StoreVirtualRows(store_.get());
    ASSERT_TRUE(status.ok()) << status;
  }
  void CheckRead(const std::vector<int64_t>& ids) {
    const absl::Status status = model_.Read(*store_, ids);
    ASSERT_TRUE(status.ok()) << status;
  }
  void CheckAll() { model_.CheckAll(*store_); }
  void Grow(int64_t class_count) {
    model_.Grow(store_.get(), class_count);
    head_.class_count = class_count;
  }

 private:
  void Open(const std::string& presence_bytes) {
    TieredRowStore::Options options;
    options.head = head_;
    options.memory_bytes = slab_records_ * (model_.codec().record_bytes() + HotRows::kBytesBesideRecord);
    options.queue_records = queue_records_;
    auto presence = std::make_unique<PresenceBitmap>(Partitions(head_.class_count, head_.seed, head_.partition_count), 0, 1);
    if (!presence_bytes.empty()) {
      ASSERT_TRUE(presence->Parse(presence_bytes).ok());
    }
    std::unique_ptr<ColdStore> cold;
    if (!folder_.empty()) {
      auto opened = ColdStore::Open({folder_, model_.codec().record_bytes(), 4});
      ASSERT_TRUE(opened.ok()) << opened.status();
      cold = *std::move(opened);
    }
    store_ = std::make_unique<TieredRowStore>(options, std::move(cold), std::move(presence));
  }

  HeadSpec head_;
  RowStoreModel model_;
  const std::string folder_;
  const int64_t slab_records_;
  const int64_t queue_records_;
  std::unique_ptr<TieredRowStore> store_;
};

std::vector<int64_t> RandomIds(std::mt19937_64* random, int64_t count) { return RandomClassIds(kClasses, count, random); }

// Few or many; partitions have one class or two here.
std::vector<int32_t> RandomPartitions(std::mt19937_64* random) {
  std::set<int32_t> partitions;
  for (uint64_t left = (*random)() % 400; left > 0; --left) partitions.insert(static_cast<int32_t>((*random)() % 4096));
  return {partitions.begin(), partitions.end()};
}

void RandomLife(Rig* rig, uint64_t seed, int most_rows, bool reopens) {
  std::mt19937_64 random(seed);
  for (int64_t step = 0; step < 120; ++step) {
    const std::vector<int64_t> ids = RandomIds(&random, 1 + static_cast<int>(random() % most_rows));
    // Hints of all kinds, right and wrong: they change nothing.
    if (random() % 2 == 0) rig->store().Announce(RandomIds(&random, 1 + static_cast<int>(random() % 200)));
    if (random() % 2 == 0) rig->store().Announce(ids);
    if (random() % 3 == 0) rig->store().KeepPartitions(RandomPartitions(&random));
    switch (random() % 8) {
      case 0: rig->Step(ids, step, /*commit=*/false); break;
      case 1: rig->Write(ids, &random); break;
      case 2: rig->CheckRead(ids); break;
      default: rig->Step(ids, step, /*commit=*/true);
    }
    if (reopens && step % 40 == 39) rig->Reopen();
    if (::testing::Test::HasFailure()) return;
  }
  rig->CheckAll();
}

TEST(TieredRowStoreTest, IsAMapOfRowsWhateverTierTheyAreIn) {
  const std::pair<DataType, DataType> types[] = {
      {DataType::kFloat32, DataType::kFloat32}, {DataType::kBFloat16, DataType::kBFloat16}, {DataType::kFloat16, DataType::kFloat32}};
  uint64_t seed = 0;
  for (const auto& [weights, slots] : types) {
    for (const int64_t slab_records : {400, 1500, 100000}) {
      SCOPED_TRACE(absl::StrCat("slab of ", slab_records, ", types ", static_cast<int>(weights), " ", static_cast<int>(slots)));
      TempDir dir;
      // A queue that is smaller than what a step pushes out as well as one that is not.
      Rig rig(Spec(weights, slots), dir.File("rows"), slab_records, slab_records == 400 ? 64 : 4000);
      RandomLife(&rig, ++seed, 300, /*reopens=*/true);
      if (HasFailure()) return;
    }
    SCOPED_TRACE("no disk");
    Rig rig(Spec(weights, slots), "", 0, 0);
    RandomLife(&rig, ++seed, 300, /*reopens=*/false);
  }
}

TEST(TieredRowStoreTest, GrowingAddsVirtualClassesAndMovesNone) {
  TempDir dir;
  for (const bool on_disk : {false, true}) {
    SCOPED_TRACE(on_disk ? "on disk" : "in memory");
    Rig rig(Spec(DataType::kBFloat16, DataType::kFloat32), on_disk ? dir.File("rows") : "", on_disk ? 400 : 0, on_disk ? 1000 : 0);
    RandomLife(&rig, 17, 200, /*reopens=*/false);
    rig.Grow(3 * kClasses);
    rig.CheckAll();
    rig.Step({3 * kClasses - 1, kClasses - 1, kClasses, 2 * kClasses}, 500, true);
    rig.CheckAll();
    if (on_disk) rig.Reopen();
    rig.CheckAll();
  }
}

TEST(TieredRowStoreTest, TheSlabStaysWithinItsBound) {
  TempDir dir;
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), dir.File("rows"), 400, 4000);
  std::mt19937_64 random(1);
  for (int64_t step = 0; step < 50; ++step) {
    rig.Step(RandomIds(&random, 300), step, true);
    EXPECT_LE(rig.store().statistics().slab_rows, 400);
  }
  const RowStoreStatistics statistics = rig.store().statistics();
  EXPECT_EQ(statistics.hits + statistics.misses + statistics.created, 50 * 300);
  EXPECT_EQ(statistics.created, rig.store().row_count());
  EXPECT_GT(statistics.misses, 0);
  EXPECT_EQ(statistics.evicted, statistics.created + statistics.misses - statistics.slab_rows);
  EXPECT_GT(statistics.cold.record_count_estimate, 0);
  EXPECT_LE(statistics.cold.record_count_estimate, rig.store().row_count()) << "a row counts once, however often it was written";
}

TEST(TieredRowStoreTest, AStepThatCannotFitIsRefusedAndNothingIsLost) {
  TempDir dir;
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), dir.File("rows"), 200, 1000);
  std::mt19937_64 random(2);
  rig.Step(RandomIds(&random, 150), 0, true);
  RowStore::PinFigures figures;
  const absl::Status status = rig.store().Pin(1, RandomIds(&random, 201), &figures);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("200"), std::string::npos) << status;
  rig.Step(RandomIds(&random, 200), 1, true);
  rig.CheckAll();
}

TEST(TieredRowStoreTest, WithoutADiskAFullSlabSaysWhatToDo) {
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), "", 100, 0);
  std::mt19937_64 random(3);
  rig.Step(RandomIds(&random, 100), 0, true);
  RowStore::PinFigures figures;
  std::vector<int64_t> all(kClasses);
  for (int64_t i = 0; i < kClasses; ++i) all[i] = i;
  const absl::Status status = rig.store().Pin(1, all, &figures);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("--store"), std::string::npos) << status;
  rig.CheckAll();
}

// Rows that are used in every step stay; those that are not make room.
TEST(TieredRowStoreTest, TheClockKeepsWhatIsUsed) {
  TempDir dir;
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), dir.File("rows"), 600, 4000);
  std::mt19937_64 random(4);
  std::vector<int64_t> hot(100);
  for (int64_t i = 0; i < 100; ++i) hot[i] = i;
  for (int64_t step = 0; step < 40; ++step) {
    std::vector<int64_t> ids = hot;
    for (const int64_t id : RandomIds(&random, 200)) {
      if (id >= 100) ids.push_back(id);
    }
    rig.Step(ids, step, true);
  }
  const int64_t misses = rig.store().statistics().misses;
  rig.Step(hot, 40, true);
  EXPECT_EQ(rig.store().statistics().misses, misses);
}

std::vector<int64_t> Range(int64_t first, int64_t end) {
  std::vector<int64_t> ids;
  for (int64_t id = first; id < end; ++id) ids.push_back(id);
  return ids;
}

TEST(TieredRowStoreTest, AnnouncedRowsAreNoMisses) {
  TempDir dir;
  // Hints do not wait for the disk: the queue has room for all that these steps push out, however slow it is.
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), dir.File("rows"), 600, 10000);
  for (int64_t step = 0; step < 10; ++step) rig.Step(Range(step * 300, step * 300 + 300), step, true);
  for (int64_t step = 10; step < 20; ++step) {
    const std::vector<int64_t> ids = Range((step - 10) * 300, (step - 10) * 300 + 300);
    rig.store().Announce(ids);
    rig.Step(ids, step, true);
  }
  const RowStoreStatistics statistics = rig.store().statistics();
  EXPECT_EQ(statistics.misses, 0);
  EXPECT_EQ(statistics.announced, 10 * 300);
  EXPECT_EQ(statistics.hits + statistics.awaited, 10 * 300);
}

// The rows of a partition that is kept come in by themselves and stay, whatever else is used; they go with their partition.
TEST(TieredRowStoreTest, KeptPartitionsComeAndStay) {
  TempDir dir;
  Rig rig(Spec(DataType::kFloat32, DataType::kFloat32), dir.File("rows"), 900, 4000);
  const Partitions partitions(kClasses, 4, 4096);
  for (int64_t step = 0; step < 10; ++step) rig.Step(Range(step * 300, step * 300 + 300), step, true);
  std::vector<int64_t> kept_ids;
  std::vector<int32_t> kept;
  for (int32_t partition = 0; partition < 400; ++partition) {
    kept.push_back(partition);
    for (int64_t index = 0; index < partitions.size(partition); ++index) {
      const int64_t id = partitions.ClassAt({partition, index});
      if (id < 3000) kept_ids.push_back(id);
    }
  }
  ASSERT_GT(kept_ids.size(), 200u);
  rig.store().KeepPartitions(kept);
  // Steps on other rows, more of them than there is room for. Partitions come a few at a time: each step lets in some more.
  int64_t step = 10;
  for (int64_t round = 0; rig.store().statistics().kept + rig.store().statistics().announced < static_cast<int64_t>(kept_ids.size()) / 2;
       ++round) {
    ASSERT_LT(round, 10000);
    rig.Step(Range(4000, 4200), step++, true);
    rig.store().Announce({});
  }
  rig.Step(kept_ids, step++, true);
  for (int64_t first = 3000; first + 300 <= kClasses; first += 300) rig.Step(Range(first, first + 300), step++, true);
  const int64_t misses = rig.store().statistics().misses;
  rig.Step(kept_ids, step++, true);
  EXPECT_EQ(rig.store().statistics().misses, misses);

  // What they have that is new goes to the disk at once.
  const int64_t dirty_before = rig.store().statistics().dirty_rows;
  rig.store().KeepPartitions({});
  EXPECT_LE(rig.store().statistics().dirty_rows, dirty_before - static_cast<int64_t>(kept_ids.size()));
  rig.CheckAll();
}

TEST(TieredRowStoreTest, VirtualRowsAreStoredWithoutComingIntoMemory) {
  TempDir dir;
  std::mt19937_64 random(1);
  Rig rig(Spec(DataType::kBFloat16, DataType::kBFloat16), dir.File("rows"), 700, 300);
  rig.Step(RandomClassIds(kClasses, 200, &random), 0, true);
  rig.StoreVirtualRows();
  EXPECT_EQ(rig.store().row_count(), kClasses);
  EXPECT_EQ(rig.store().statistics().slab_rows, 200);
  rig.CheckAll();
  for (int64_t step = 1; step < 8; ++step) rig.Step(RandomClassIds(kClasses, 300, &random), step, true);
  EXPECT_EQ(rig.store().statistics().created, 200);
  rig.Reopen();
  rig.CheckAll();
}

}  // namespace
}  // namespace myriad
