// IdleUpdate::kExact in the stores: rows that no step touches move as in SGD that holds all of W, and no eviction, hint, compaction,
// aborted step or reopening changes a bit of any row.
#include "server/store/idle_rows.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "head/row_optimizer.h"
#include "head/virtual_rows.h"
#include "server/store/tiered_row_store.h"
#include "tests/testing/server/change_rows.h"
#include "tests/testing/server/fake_cold_store.h"

namespace myriad {
namespace {

constexpr int kDim = 6;
constexpr int64_t kClasses = 60;
// Rows of a step at most.
constexpr int kStepRows = 5;

HeadSpec Spec(DataType weights, DataType slots) {
  HeadSpec head;
  head.name = "h";
  head.class_count = kClasses;
  head.embedding_dim = kDim;
  head.weight_dtype = weights;
  head.slot_dtype = slots;
  head.initial_deviation = 0.5;
  head.seed = 3;
  return head;
}

OptimizerOptions Sgd(bool decoupled) {
  OptimizerOptions sgd;
  sgd.weight_decay = 0.02;
  sgd.decoupled_weight_decay = decoupled;
  sgd.idle_update = IdleUpdate::kExact;
  return sgd;
}

struct Rows {
  std::vector<float> weights = std::vector<float>(kClasses * kDim);
  std::vector<float> slots = std::vector<float>(kClasses * kDim);
  std::vector<uint8_t> exists = std::vector<uint8_t>(kClasses);
  std::vector<int64_t> steps = std::vector<int64_t>(kClasses);
};

// A store over a disk that is a map, whose slab holds a few rows more than a step needs; or one that holds all rows in memory.
class Rig {
 public:
  Rig(const HeadSpec& head, bool with_disk) : head_(head), record_bytes_(RowCodec(head).record_bytes()), disk_(record_bytes_) {
    if (with_disk) {
      Open("");
    } else {
      TieredRowStore::Options options;
      options.head = head_;
      store_ = std::make_unique<TieredRowStore>(options, nullptr, Presence());
    }
  }

  TieredRowStore& store() { return *store_; }
  FakeDisk& disk() { return disk_; }

  void Reopen() {
    ASSERT_TRUE(store_->Flush().ok());
    const std::string presence = store_->presence().Serialize();
    store_.reset();
    Open(presence);
  }

  void Step(int64_t step, const std::vector<int64_t>& ids, const std::vector<float>& gradients, const OptimizerOptions& sgd, double rate,
            bool commit = true) {
    RowStore::PinFigures figures;
    const absl::Status pinned = store_->Pin(step, ids, &figures);
    ASSERT_TRUE(pinned.ok()) << pinned;
    if (sgd.idle_update == IdleUpdate::kExact) {
      ASSERT_TRUE(store_->MoveIdleRows(MakeSgdStep(sgd, rate)).ok());
    }
    if (!commit) return store_->Unpin();
    ChangeRows(store_.get(), [&](int64_t row, float* weights, float* slots) {
      UpdateRow(MakeSgdStep(sgd, rate), gradients.data() + row * kDim, kDim, weights, slots);
    });
    store_->Commit();
  }

  Rows ReadAll() const {
    std::vector<int64_t> ids(kClasses);
    for (int64_t id = 0; id < kClasses; ++id) ids[id] = id;
    Rows rows;
    EXPECT_TRUE(store_->Read(ids, rows.weights.data(), rows.slots.data(), rows.exists.data(), rows.steps.data()).ok());
    // What is not asked for does not matter to what is.
    std::vector<float> weights(kClasses * kDim);
    EXPECT_TRUE(store_->Read(ids, weights.data(), nullptr, nullptr, nullptr).ok());
    EXPECT_EQ(weights, rows.weights);
    return rows;
  }

 private:
  std::unique_ptr<PresenceBitmap> Presence() const {
    return std::make_unique<PresenceBitmap>(Partitions(kClasses, head_.seed, head_.partition_count), 0, 1);
  }

  void Open(const std::string& presence_bytes) {
    TieredRowStore::Options options;
    options.head = head_;
    options.memory_bytes = (kStepRows + 6) * (record_bytes_ + HotRows::kBytesBesideRecord);
    options.queue_records = 4;
    options.sweep_after_steps = 20;
    auto presence = Presence();
    if (!presence_bytes.empty()) {
      ASSERT_TRUE(presence->Parse(presence_bytes).ok());
    }
    store_ = std::make_unique<TieredRowStore>(options, disk_.Open(), std::move(presence));
    ASSERT_TRUE(store_->RestoreIdleRows().ok());
  }

  const HeadSpec head_;
  const int64_t record_bytes_;
  FakeDisk disk_;
  std::unique_ptr<TieredRowStore> store_;
};

// All of W in float64.
class Dense {
 public:
  explicit Dense(const HeadSpec& head) : w_(kClasses * kDim), v_(kClasses * kDim) {
    std::vector<float> row(kDim);
    for (int64_t id = 0; id < kClasses; ++id) {
      FillVirtualRow(head, id, row.data());
      std::copy(row.begin(), row.end(), w_.begin() + id * kDim);
    }
  }

  void Step(const std::vector<int64_t>& ids, const std::vector<float>& gradients, const OptimizerOptions& sgd, double rate) {
    std::vector<double> all(kClasses * kDim, 0.0);
    std::vector<bool> moves(kClasses, sgd.idle_update == IdleUpdate::kExact);
    for (size_t i = 0; i < ids.size(); ++i) {
      moves[ids[i]] = true;
      std::copy(gradients.begin() + i * kDim, gradients.begin() + (i + 1) * kDim, all.begin() + ids[i] * kDim);
    }
    for (int64_t i = 0; i < kClasses * kDim; ++i) {
      if (!moves[i / kDim]) continue;
      v_[i] = sgd.momentum * v_[i] + all[i] + (sgd.decoupled_weight_decay ? 0.0 : sgd.weight_decay * w_[i]);
      w_[i] -= rate * (v_[i] + (sgd.decoupled_weight_decay ? sgd.weight_decay * w_[i] : 0.0));
    }
  }

  void Expect(const Rows& rows, double tolerance) const {
    for (int64_t i = 0; i < kClasses * kDim; ++i) {
      ASSERT_NEAR(rows.weights[i], w_[i], tolerance) << "class " << i / kDim;
      ASSERT_NEAR(rows.slots[i], v_[i], tolerance) << "class " << i / kDim;
    }
  }

 private:
  std::vector<double> w_, v_;
};

struct Draw {
  std::vector<int64_t> ids;
  std::vector<float> gradients;
};
// A few rows out of `classes`; the first ones often, the last ones hardly ever.
Draw RandomDraw(std::mt19937& rng, int64_t classes) {
  Draw draw;
  std::normal_distribution<float> normal(0.0f, 0.1f);
  std::uniform_real_distribution<double> uniform;
  const size_t count = rng() % (kStepRows + 1);
  while (draw.ids.size() < count) {
    const int64_t id = static_cast<int64_t>(std::pow(uniform(rng), 4.0) * static_cast<double>(classes));
    if (std::find(draw.ids.begin(), draw.ids.end(), id) == draw.ids.end()) draw.ids.push_back(id);
  }
  for (size_t i = 0; i < count * kDim; ++i) draw.gradients.push_back(normal(rng));
  return draw;
}

TEST(IdleRowsTest, NothingThatAStoreDoesChangesARowAndEachIsThatOfDenseSgd) {
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16}) {
    for (uint32_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE(absl::StrCat("seed = ", seed, type == DataType::kFloat32 ? ", float32" : ", bfloat16"));
      std::mt19937 rng(seed);
      const HeadSpec head = Spec(type, type);
      Rig rig(head, /*with_disk=*/true), memory(head, /*with_disk=*/false);
      Dense dense(head);
      OptimizerOptions sgd = Sgd(seed % 2 == 1);
      for (int64_t step = 0; step < 900; ++step) {
        SCOPED_TRACE(absl::StrCat("step ", step));
        // Runs of other kinds between: one that lets idle rows be, one with another momentum.
        if (rng() % 150 == 0) sgd.idle_update = sgd.idle_update == IdleUpdate::kExact ? IdleUpdate::kSkip : IdleUpdate::kExact;
        if (rng() % 150 == 0) sgd.momentum = 0.5 + 0.1 * static_cast<double>(rng() % 5);
        const double rate = step < 450 ? 0.1 : 0.01;
        const Draw draw = RandomDraw(rng, kClasses - 5);
        if (rng() % 10 == 0) rig.Step(step, draw.ids, draw.gradients, sgd, rate, /*commit=*/false);
        rig.Step(step, draw.ids, draw.gradients, sgd, rate);
        memory.Step(step, draw.ids, draw.gradients, sgd, rate);
        dense.Step(draw.ids, draw.gradients, sgd, rate);
        if (::testing::Test::HasFatalFailure()) return;
        if (rng() % 20 == 0) rig.store().Announce(RandomDraw(rng, kClasses).ids);
        if (rng() % 40 == 0) rig.disk().Compact();
        if (rng() % 60 == 0) rig.Reopen();
        if (rng() % 25 != 0) continue;
        const Rows rows = rig.ReadAll(), plain = memory.ReadAll();
        ASSERT_EQ(rows.exists, plain.exists);
        ASSERT_EQ(rows.steps, plain.steps);
        ASSERT_EQ(rows.weights, plain.weights);
        ASSERT_EQ(rows.slots, plain.slots);
        if (type == DataType::kFloat32) dense.Expect(rows, 2e-5);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

// Whether they leave the slab long after their last step, or lie on the disk since soon after it.
TEST(IdleRowsTest, LongIdleRowsAreStoredWithoutSlots) {
  const HeadSpec head = Spec(DataType::kFloat32, DataType::kFloat32);
  Rig rig(head, /*with_disk=*/true);
  OptimizerOptions sgd = Sgd(false);
  sgd.weight_decay = 2e-3;
  std::vector<int64_t> steps_of(kClasses, -1);
  int64_t step = 0;
  const auto run = [&](const std::vector<int64_t>& ids) {
    for (const int64_t id : ids) steps_of[id] = step;
    rig.Step(step++, ids, std::vector<float>(ids.size() * kDim, 0.25f), sgd, 0.1);
  };
  for (int64_t id = 10; id < kClasses; id += 2) run({id, id + 1});
  const auto short_records = [&] {
    int64_t count = 0;
    for (const auto& [key, record] : rig.disk().records()) {
      const int64_t class_id = rig.store().ClassOfKey(static_cast<int64_t>(key));
      if (class_id < 2) continue;  // Rows in use: what the disk has of them is out of date, by how much its writers' pace says.
      const int64_t last = steps_of[class_id];
      const bool is_short = ColdStore::IsShort(record.step);
      EXPECT_EQ(is_short, ColdStore::StepOf(record.step) > last);
      if (is_short) {
        EXPECT_NEAR(ColdStore::StepOf(record.step) - last, 160, 3);
        ++count;
      }
    }
    return count;
  };
  ASSERT_TRUE(rig.store().Flush().ok());
  EXPECT_EQ(short_records(), 0);
  for (int i = 0; i < 300; ++i) run({i % 2});
  rig.disk().Compact();
  EXPECT_GE(short_records(), 35) << "of 50; some are still in the slab";
  for (int64_t id = 2; id < 10; id += 2) run({id, id + 1});
  ASSERT_TRUE(rig.store().Flush().ok());
  EXPECT_EQ(short_records(), 50) << "rows that were pushed out of the slab";
}

TEST(IdleRowsTest, DamagedBytesAreRefused) {
  IdleRows rows(Spec(DataType::kFloat32, DataType::kFloat32));
  ASSERT_TRUE(rows.Prepare(5, MakeSgdStep(Sgd(false), 0.1)).ok());
  rows.Commit(5);
  const std::string bytes = rows.Serialize();
  IdleRows restored(Spec(DataType::kFloat32, DataType::kFloat32));
  EXPECT_EQ(restored.Restore(absl::string_view(bytes).substr(0, bytes.size() - 3)).code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(restored.active());
  ASSERT_TRUE(restored.Restore(bytes).ok());
  EXPECT_TRUE(restored.active());
  EXPECT_EQ(restored.last_step(), 5);
  EXPECT_EQ(restored.Serialize(), bytes);
}

}  // namespace
}  // namespace myriad
