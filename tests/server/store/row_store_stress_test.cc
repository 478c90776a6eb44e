// Many short lives of a TieredRowStore over a disk that is slow at random, and in half of the lives fails at random, beside a map of what
// the store must hold: steps, reads, writes and hints on the strand against write-back, background reads and readers of figures. Each life
// ends with all rows on the disk. Under --config=tsan it looks for races as well. MYRIAD_STRESS_FACTOR: so many times the lives.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/partitions.h"
#include "server/store/tiered_row_store.h"
#include "tests/testing/server/fake_cold_store.h"
#include "tests/testing/server/row_store_model.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int kDim = 5;
constexpr int64_t kClasses = 1200;
// A partition has some forty rows, so that there are runs to read.
constexpr int kPartitions = 32;
constexpr int kCallsPerLife = 100;

uint64_t Lives(uint64_t lives) {
  const char* const said = std::getenv("MYRIAD_STRESS_FACTOR");
  uint64_t factor = 1;
  if (said != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(said, &factor)) << said;
  }
  return lives * factor;
}

// A fixed function of the number of the call, whichever thread makes it.
uint64_t Mix(uint64_t number) {
  number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
  number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
  return number ^ (number >> 31);
}

// Some calls take no time, some wait for others to run, a few are slow; one in `fails_one_in` fails, 0: none.
FakeDisk::Hook SlowDisk(uint64_t seed, uint64_t fails_one_in) {
  auto calls = std::make_shared<std::atomic<uint64_t>>(0);
  return [=](FakeDisk::Call) -> absl::Status {
    const uint64_t random = Mix(seed << 32 | ++*calls);
    for (uint64_t turns = random % 16; turns > 0; --turns) std::this_thread::yield();
    if (random / 16 % 8 == 0) absl::SleepFor(absl::Microseconds(random / 128 % 500));
    if (fails_one_in > 0 && Mix(random) % fails_one_in == 0) return absl::UnavailableError("the disk is tired");
    return absl::OkStatus();
  };
}

// Makes the calls that are thread-safe, all its life.
class Onlooker {
 public:
  explicit Onlooker(const RowStore* store) : thread_([this, store] { Look(*store); }) {}
  ~Onlooker() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Look(const RowStore& store) {
    const int64_t first_class = store.ClassOfKey(KeyOfPlace({3, 0}));
    while (!stop_) {
      EXPECT_GE(store.reserved_row_count(), 0);
      EXPECT_LE(store.row_count(), kClasses);
      EXPECT_GE(store.statistics().slab_rows, 0);
      EXPECT_GE(store.BytesOfNewRows(10), 0);
      EXPECT_TRUE(store.CheckMemory(1, "a look").ok());
      EXPECT_TRUE(store.CheckRowsFit({1, 1}).ok());
      EXPECT_EQ(store.ClassOfKey(KeyOfPlace({3, 0})), first_class);
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Life {
 public:
  using OpenCold = std::function<std::unique_ptr<ColdStore>(int64_t record_bytes)>;

  // `may_fail`: calls may end with UNAVAILABLE.
  Life(uint64_t seed, OpenCold open_cold, bool may_fail)
      : random_(seed), open_cold_(std::move(open_cold)), may_fail_(may_fail), head_(RandomHead()), model_(head_) {
    slab_records_ = 100 + static_cast<int64_t>(random_() % 500);
    queue_records_ = 1 + static_cast<int64_t>(random_() % 300);
    sweep_after_steps_ = 1 + static_cast<int64_t>(random_() % 50);
    Open("");
  }

  const HeadSpec& head() const { return head_; }
  const RowStoreModel& model() const { return model_; }

  void Run() {
    for (int call = 0; call < kCallsPerLife && !::testing::Test::HasFailure(); ++call) Call();
  }

  // Every row durable, the store closed and opened again, and all rows as they must be. Not while the disk fails.
  void Reopen() {
    absl::Status status = store_->Flush();
    // What the disk refused lately is tried again after a pause.
    while (absl::IsUnavailable(status)) status = store_->Flush();
    ASSERT_TRUE(status.ok()) << status;
    onlooker_.reset();
    const std::string presence = store_->presence().Serialize();
    store_.reset();
    Open(presence);
    model_.CheckAll(*store_);
  }

 private:
  HeadSpec RandomHead() {
    constexpr std::pair<DataType, DataType> kTypes[] = {
        {DataType::kFloat32, DataType::kFloat32}, {DataType::kBFloat16, DataType::kBFloat16}, {DataType::kFloat16, DataType::kFloat32}};
    HeadSpec head;
    head.name = "h";
    head.class_count = kClasses;
    head.embedding_dim = kDim;
    head.partition_count = kPartitions;
    std::tie(head.weight_dtype, head.slot_dtype) = kTypes[random_() % 3];
    head.seed = random_();
    return head;
  }

  void Open(const std::string& presence_bytes) {
    auto presence = std::make_unique<PresenceBitmap>(Partitions(classes_, head_.seed, kPartitions), 0, 1);
    if (!presence_bytes.empty()) {
      ASSERT_TRUE(presence->Parse(presence_bytes).ok());
    }
    const int64_t record_bytes = model_.codec().record_bytes();
    TieredRowStore::Options options;
    options.head = head_;
    options.head.class_count = classes_;
    // With what the largest step works on.
    options.memory_bytes = slab_records_ * (record_bytes + HotRows::kBytesBesideRecord + 2 * kDim * 4);
    options.queue_records = queue_records_;
    options.sweep_after_steps = sweep_after_steps_;
    options.available_memory = [] { return int64_t{1} << 40; };
    store_ = std::make_unique<TieredRowStore>(options, open_cold_(record_bytes), std::move(presence));
    onlooker_ = std::make_unique<Onlooker>(store_.get());
  }

  // Fewer than the slab has room for.
  std::vector<int64_t> SomeIds() { return RandomClassIds(kClasses, 1 + static_cast<int64_t>(random_() % (slab_records_ / 2)), &random_); }

  std::vector<int32_t> SomePartitions() {
    std::set<int32_t> partitions;
    for (uint64_t left = random_() % 8; left > 0; --left) partitions.insert(static_cast<int32_t>(random_() % kPartitions));
    return {partitions.begin(), partitions.end()};
  }

  void Call() {
    const std::vector<int64_t> ids = SomeIds();
    // Hints of all kinds, right and wrong, a step ahead or in vain.
    if (random_() % 2 == 0) store_->Announce(ids);
    if (random_() % 3 == 0) store_->Announce(SomeIds());
    if (random_() % 4 == 0) store_->KeepPartitions(SomePartitions());
    if (random_() % 20 == 0) store_->Grow(classes_ += static_cast<int64_t>(random_() % 50));
    absl::Status status;
    switch (random_() % 12) {
      case 0: status = model_.Step(store_.get(), ids, step_, /*commit=*/false); break;
      case 1: status = model_.Write(store_.get(), ids, &random_); break;
      case 2:
      case 3: status = model_.Read(*store_, ids); break;
      case 4: status = store_->Flush(); break;
      case 5: status = store_->Reserve(static_cast<int64_t>(random_() % 100)); break;
      default: status = model_.Step(store_.get(), ids, step_, /*commit=*/true); ++step_;
    }
    EXPECT_TRUE(status.ok() || (may_fail_ && absl::IsUnavailable(status))) << status;
  }

  std::mt19937_64 random_;
  const OpenCold open_cold_;
  const bool may_fail_;
  const HeadSpec head_;
  RowStoreModel model_;
  int64_t classes_ = kClasses;  // Of which the first kClasses have rows.
  int64_t slab_records_ = 0;
  int64_t queue_records_ = 0;
  int64_t sweep_after_steps_ = 0;
  int64_t step_ = 0;
  std::unique_ptr<TieredRowStore> store_;
  std::unique_ptr<Onlooker> onlooker_;  // Of the store: goes first.
};

// The disk has exactly the rows of the model, durable.
void CheckDisk(const FakeDisk& disk, const RowStoreModel& model, uint64_t head_seed) {
  const Partitions partitions(kClasses, head_seed, kPartitions);
  FakeDisk::Records expected;
  for (const auto& [class_id, row] : model.rows()) {
    expected[static_cast<uint64_t>(KeyOfPlace(partitions.Locate(class_id)))] = {row.step, row.record};
  }
  EXPECT_TRUE(disk.durable() == expected);
}

TEST(RowStoreStressTest, NoRowIsLostOrMixedUpOverASlowOrFailingDisk) {
  for (uint64_t seed = 0; seed < Lives(24); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::unique_ptr<FakeDisk> disk;
    const uint64_t fails_one_in = seed % 2 == 0 ? 0 : 10;
    Life life(
        seed,
        [&](int64_t record_bytes) {
          if (disk == nullptr) disk = std::make_unique<FakeDisk>(record_bytes);
          return disk->Open();
        },
        fails_one_in > 0);
    disk->SetHook(SlowDisk(seed, fails_one_in));
    life.Run();
    disk->SetHook(SlowDisk(seed, 0));
    life.Reopen();
    CheckDisk(*disk, life.model(), life.head().seed);
    ASSERT_FALSE(HasFailure());
  }
}

TEST(RowStoreStressTest, NoRowIsLostOrMixedUpOverRocksDb) {
  for (uint64_t seed = 0; seed < Lives(3); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    const TempDir dir;
    Life life(
        seed,
        [&](int64_t record_bytes) {
          auto cold = ColdStore::Open({dir.File("rows"), record_bytes, /*io_threads=*/4});
          EXPECT_TRUE(cold.ok()) << cold.status();
          return *std::move(cold);
        },
        /*may_fail=*/false);
    for (int opened = 0; opened < 2; ++opened) {
      life.Run();
      life.Reopen();
      ASSERT_FALSE(HasFailure());
    }
  }
}

}  // namespace
}  // namespace myriad
