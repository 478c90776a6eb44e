// kill -9 of a real server that trains with rows beyond its memory, at random moments: in steps, while it stops, while it saves, while it
// opens what a kill before left. Whatever is on the disk then, each row is as some committed step left it, the folder says what it is, and
// a save is whole or none.
//
// A shard in this process, which keeps all rows in memory, takes every step first: what it has after the step is the row's state of that
// step, of which digests are kept. MYRIAD_KILLS says how many kills there are.

#include <signal.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"
#include "server/store/memory_division.h"
#include "server/store/row_codec.h"
#include "tests/chaos/store_server.h"
#include "tests/testing/server/row_store_model.h"
#include "tests/testing/server/shard_cluster.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int kDim = 512;
constexpr int64_t kClasses = 4000;
// A step's rows; the slab has room for some steps' of them.
constexpr int64_t kLabels = 400;
constexpr int64_t kSlabRows = 1100;

int Kills() {
  const char* const said = std::getenv("MYRIAD_KILLS");
  int kills = 5;
  if (said != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(said, &kills)) << said;
  }
  return kills;
}

// A row as ReadRows gives it.
struct ReadRow {
  int64_t last_step = -1;
  uint64_t digest = 0;  // Of weights and slots.
};

std::map<int64_t, ReadRow> ReadRows(ShardStubs* stubs, absl::Span<const int64_t> class_ids) {
  std::map<int64_t, ReadRow> rows;
  const auto chunks = stubs->ReadRows("h", /*with_slots=*/true, class_ids);
  EXPECT_TRUE(chunks.ok()) << chunks.status();
  if (!chunks.ok()) return rows;
  for (const v1::ReadRowsResponse& chunk : *chunks) {
    const auto* const ids = reinterpret_cast<const int64_t*>(chunk.class_ids().data());
    const auto* const steps = reinterpret_cast<const int64_t*>(chunk.last_step().data());
    const size_t count = chunk.class_ids().size() / sizeof(int64_t);
    const size_t weight_bytes = count == 0 ? 0 : chunk.centers().data().size() / count;
    const size_t slot_bytes = count == 0 ? 0 : chunk.slots().data().size() / count;
    EXPECT_EQ(weight_bytes, kDim * sizeof(float));
    EXPECT_GE(slot_bytes, kDim * sizeof(float));
    for (size_t i = 0; i < count; ++i) {
      const uint64_t weights = XXH3_64bits(chunk.centers().data().data() + i * weight_bytes, weight_bytes);
      rows[ids[i]] = {steps[i], XXH3_64bits_withSeed(chunk.slots().data().data() + i * slot_bytes, slot_bytes, weights)};
    }
  }
  return rows;
}

// A head on a shard in memory, and what each of its rows was after each step.
class Shadow {
 public:
  explicit Shadow(v1::OpenHeadRequest open) : cluster_(1, OneThread()), stubs_(cluster_.addresses()[0]), open_(std::move(open)) {
    open_.clear_shard_addresses();
    open_.add_shard_addresses(cluster_.addresses()[0]);
    const auto opened = stubs_.Open(open_);
    EXPECT_TRUE(opened.ok()) << opened.status();
  }

  void Step(v1::HeadStepRequest request, const std::vector<int64_t>& labels) {
    request.mutable_key()->set_incarnation(open_.incarnation());
    const auto done = stubs_.Step(request);
    ASSERT_TRUE(done.ok()) << done.status();
    for (const auto& [class_id, row] : ReadRows(&stubs_, labels)) {
      ASSERT_EQ(row.last_step, request.key().step());
      states_[class_id][row.last_step] = row.digest;
    }
  }

  // Steps of a class, with what it was after each.
  const std::map<int64_t, std::map<int64_t, uint64_t>>& states() const { return states_; }

 private:
  static MyriadServer::Options OneThread() {
    at::set_num_threads(1);
    MyriadServer::Options options = ShardCluster::Defaults();
    options.threads = 1;
    return options;
  }

  ShardCluster cluster_;
  ShardStubs stubs_;
  v1::OpenHeadRequest open_;
  std::map<int64_t, std::map<int64_t, uint64_t>> states_;
};

// The least memory with which the slab has `rows` rows.
int64_t MemoryFor(const v1::OpenHeadRequest& open, int64_t rows) {
  const HeadSpec head = *ParseHeadSpec(open.head());
  const int64_t slab_bytes = rows * (RowCodec(head).record_bytes() + 64);
  for (int64_t memory = 1 << 20;; memory += 1 << 20) {
    const auto division = DivideMemory(head, kClasses, memory);
    if (division.ok() && division->rows_bytes >= slab_bytes) return memory;
  }
}

class KillTest : public ::testing::Test {
 protected:
  // A new folder and a new head for the kill of this number.
  void Begin(uint64_t seed) {
    random_.seed(seed);
    open_ = MakeOpen("h", kClasses, kDim, {}, 0, 1);
    open_.mutable_head()->set_seed(seed);
    if (seed % 3 == 1) {
      open_.mutable_head()->set_weight_dtype(v1::DATA_TYPE_BFLOAT16);
      open_.mutable_head()->set_slot_dtype(v1::DATA_TYPE_BFLOAT16);
    }
    open_.mutable_training()->mutable_positives_only();
    server_options_.store = dir_.File(absl::StrCat("store-", seed));
    server_options_.memory_bytes = MemoryFor(open_, kSlabRows);
    shadow_ = std::make_unique<Shadow>(open_);
    open_.set_incarnation(0);
    steps_ = 0;
  }

  void StartServer() {
    const absl::Time begin = absl::Now();
    server_ = std::make_unique<StoreServer>(server_options_);
    ASSERT_TRUE(server_->WaitUntilItServes()) << server_->Log();
    start_time_ = absl::Now() - begin;
  }

  absl::StatusOr<v1::OpenHeadResponse> Open(bool accept_mixed_steps = false) {
    open_.set_incarnation(open_.incarnation() + 1);
    open_.set_accept_mixed_steps(accept_mixed_steps);
    open_.clear_shard_addresses();
    open_.add_shard_addresses(server_->address());
    return server_->stubs().Open(open_);
  }

  // The next step, on the shadow first. What the server said.
  absl::Status Step() {
    std::vector<int64_t> labels = RandomClassIds(kClasses, kLabels, &random_);
    std::sort(labels.begin(), labels.end());
    const v1::HeadStepRequest request = MakeStep(open_, steps_, 0, labels, static_cast<uint32_t>(random_()));
    shadow_->Step(request, labels);
    ++steps_;
    return server_->stubs().Step(request).status();
  }

  void Train(int64_t steps) {
    for (int64_t i = 0; i < steps && !HasFailure(); ++i) {
      const absl::Status status = Step();
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  // SIGKILL after a random part of `most`, while `work` runs.
  void KillDuring(absl::Duration most, const std::function<void()>& work) {
    const absl::Duration delay = most * std::uniform_real_distribution<double>()(random_);
    std::thread killer([&] {
      absl::SleepFor(delay);
      server_->Signal(SIGKILL);
    });
    work();
    killer.join();
  }

  // `steps` steps, and more until a kill that comes within some two of them.
  void TrainUntilKilled(int64_t steps) {
    Train(steps);
    const absl::Time begin = absl::Now();
    Train(1);
    KillDuring(2 * (absl::Now() - begin), [&] {
      while (Step().ok()) continue;
    });
    EXPECT_EQ(server_->Wait().signal, SIGKILL);
  }

  // A clean stop, after which another server has the head open. How long the stop took.
  absl::Duration StopAndGoOn() {
    const absl::Time begin = absl::Now();
    EXPECT_TRUE(server_->Stop().ok()) << server_->Log();
    const absl::Duration took = absl::Now() - begin;
    StartServer();
    CheckRows(steps_);
    CheckRowsAre(steps_);
    const auto opened = Open();
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (opened.ok()) {
      EXPECT_EQ(opened->committed_steps(), steps_);
    }
    return took;
  }

  // True if it was faster than the kill and stopped cleanly.
  bool StopAndKill(absl::Duration most) {
    server_->Signal(SIGTERM);
    KillDuring(most, [] {});
    return server_->Wait().ok();
  }

  absl::Status Save(const std::string& name) {
    grpc::ClientContext context;
    v1::SaveHeadRequest request;
    request.set_head("h");
    request.set_incarnation(open_.incarnation());
    request.set_step(steps_);
    request.set_save(name);
    v1::SaveHeadResponse response;
    return FromGrpcStatus(server_->stubs().admin().SaveHead(&context, request, &response));
  }

  // The saves that the server has, with their steps.
  std::map<std::string, int64_t> Saves() {
    grpc::ClientContext context;
    v1::ListSavesResponse response;
    const absl::Status status = FromGrpcStatus(server_->stubs().admin().ListSaves(&context, {}, &response));
    EXPECT_TRUE(status.ok()) << status;
    std::map<std::string, int64_t> saves;
    for (const v1::HeadSave& save : response.saves()) saves[save.save()] = save.committed_steps();
    return saves;
  }

  absl::StatusOr<int64_t> Restore(const std::string& name) {
    grpc::ClientContext context;
    v1::RestoreHeadRequest request;
    *request.mutable_head() = open_.head();
    request.set_shard_count(1);
    request.set_save(name);
    v1::RestoreHeadResponse response;
    const absl::Status status = FromGrpcStatus(server_->stubs().admin().RestoreHead(&context, request, &response));
    if (!status.ok()) return status;
    return response.committed_steps();
  }

  // The head is as it was when it was saved, in every row.
  void CheckSave(const std::string& name, int64_t step) {
    const absl::StatusOr<int64_t> restored = Restore(name);
    ASSERT_TRUE(restored.ok()) << restored.status();
    EXPECT_EQ(*restored, step);
    CheckRows(step);
    CheckRowsAre(step);
  }

  // What every row was after the last step that touched it, of those before `committed`.
  std::map<int64_t, ReadRow> RowsAfter(int64_t committed) const {
    std::map<int64_t, ReadRow> rows;
    for (const auto& [class_id, states] : shadow_->states()) {
      const auto next = states.lower_bound(committed);
      if (next != states.begin()) rows[class_id] = {std::prev(next)->first, std::prev(next)->second};
    }
    return rows;
  }

  // Every row is one of its states, and none is older than at `stopped`, the last clean stop.
  void CheckRows(int64_t stopped) {
    rows_ = ReadRows(&server_->stubs(), {});
    for (const auto& [class_id, row] : rows_) {
      const auto states = shadow_->states().find(class_id);
      ASSERT_TRUE(states != shadow_->states().end()) << "class " << class_id << " was never in a step";
      const auto state = states->second.find(row.last_step);
      ASSERT_TRUE(state != states->second.end()) << "class " << class_id << " was not in step " << row.last_step;
      ASSERT_EQ(row.digest, state->second) << "class " << class_id << " is not as step " << row.last_step << " left it";
    }
    for (const auto& [class_id, row] : RowsAfter(stopped)) {
      const auto found = rows_.find(class_id);
      ASSERT_TRUE(found != rows_.end()) << "class " << class_id << " is virtual again; step " << row.last_step << " was stopped after";
      ASSERT_GE(found->second.last_step, row.last_step) << "class " << class_id;
    }
  }

  // Rows as CheckRows() found them are exactly those after `committed` steps.
  void CheckRowsAre(int64_t committed) {
    const std::map<int64_t, ReadRow> expected = RowsAfter(committed);
    ASSERT_EQ(rows_.size(), expected.size());
    for (const auto& [class_id, row] : expected) ASSERT_EQ(rows_.at(class_id).last_step, row.last_step) << "class " << class_id;
  }

  // The folder is that of one step and a run goes on from it, or it says between which steps its rows lie, and a run must be told to go on
  // from there. Opens it; returns whether it was of one step.
  bool CheckWhatTheFolderSays() {
    const auto info = server_->stubs().Info("h");
    EXPECT_TRUE(info.ok()) << info.status();
    const auto opened = Open();
    if (opened.ok()) {
      EXPECT_FALSE(info->has_mixed_steps());
      CheckRowsAre(opened->committed_steps());
      return true;
    }
    EXPECT_TRUE(absl::IsFailedPrecondition(opened.status())) << opened.status();
    // Of no row at all it knows only what was committed when the run began.
    int64_t oldest = rows_.empty() ? -1 : steps_, newest = -1;
    for (const auto& [class_id, row] : rows_) {
      oldest = std::min(oldest, row.last_step);
      newest = std::max(newest, row.last_step);
    }
    EXPECT_EQ(info->mixed_steps().oldest(), oldest);
    EXPECT_EQ(info->mixed_steps().newest(), newest);
    const std::string message(opened.status().message());
    for (const std::string& text : {absl::StrCat("steps ", oldest, " to ", newest), std::string("--accept-mixed-steps")}) {
      EXPECT_NE(message.find(text), std::string::npos) << message;
    }
    const auto accepted = Open(/*accept_mixed_steps=*/true);
    EXPECT_TRUE(accepted.ok()) << accepted.status();
    if (accepted.ok()) {
      EXPECT_EQ(accepted->committed_steps(), newest + 1);
    }
    return false;
  }

  // What was opened can be trained on and stops cleanly.
  void CheckThatItGoesOn() {
    const int64_t committed = server_->stubs().Info("h")->committed_steps();
    const std::vector<int64_t> labels = RandomClassIds(kClasses, kLabels, &random_);
    for (int64_t step = committed; step < committed + 2; ++step) {
      const absl::Status status = server_->stubs().Step(MakeStep(open_, step, 0, labels, 1)).status();
      ASSERT_TRUE(status.ok()) << status;
    }
    ASSERT_TRUE(server_->Stop().ok()) << server_->Log();
    StartServer();
    const auto opened = Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->committed_steps(), committed + 2);
  }

  TempDir dir_;
  std::mt19937_64 random_;
  StoreServer::Options server_options_;
  v1::OpenHeadRequest open_;  // The last, and of the next incarnation.
  std::unique_ptr<Shadow> shadow_;
  std::unique_ptr<StoreServer> server_;
  int64_t steps_ = 0;                // That the shadow has taken.
  absl::Duration start_time_;        // Of the last server, until it served.
  std::map<int64_t, ReadRow> rows_;  // As CheckRows() found them.
};

TEST_F(KillTest, AHeadWhoseRestoreIsKilledIsAsItWasOrAsItWasSaved) {
  for (int kill = 0; kill < Kills(); ++kill) {
    SCOPED_TRACE(absl::StrCat("kill ", kill));
    Begin(kill);
    StartServer();
    ASSERT_TRUE(Open().ok());
    Train(4);
    ASSERT_TRUE(Save("four").ok());
    Train(2);
    ASSERT_TRUE(server_->Stop().ok()) << server_->Log();
    StartServer();
    KillDuring(absl::Milliseconds(60), [&] { Restore("four").IgnoreError(); });
    server_->Wait();

    StartServer();
    const auto info = server_->stubs().Info("h");
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_FALSE(info->has_mixed_steps());
    EXPECT_TRUE(info->committed_steps() == 6 || info->committed_steps() == 4) << info->committed_steps();
    CheckRows(info->committed_steps());
    CheckRowsAre(info->committed_steps());
    CheckSave("four", 4);
    ASSERT_FALSE(HasFailure());
  }
}

// An import is over once its rows are durable.
TEST_F(KillTest, RowsThatWereMadeDurableOutliveAKill) {
  Begin(0);
  StartServer();
  grpc::ClientContext context;
  v1::CreateHeadRequest create;
  *create.mutable_head() = open_.head();
  create.set_shard_count(1);
  v1::CreateHeadResponse created;
  ASSERT_TRUE(server_->stubs().admin().CreateHead(&context, create, &created).ok());
  std::vector<int64_t> ids = RandomClassIds(kClasses, 200, &random_);
  std::sort(ids.begin(), ids.end());
  v1::WriteRowsRequest write;
  write.set_head("h");
  write.set_class_ids(PackIds(ids));
  *write.mutable_centers() = PackMatrix(std::vector<float>(ids.size() * kDim, 0.5f), ids.size(), kDim);
  ASSERT_TRUE(server_->stubs().Write(write).ok());
  const std::map<int64_t, ReadRow> written = ReadRows(&server_->stubs(), {});
  v1::WriteRowsRequest no_rows;
  no_rows.set_head("h");
  const absl::Status durable = server_->stubs().Write(no_rows);
  ASSERT_TRUE(durable.ok()) << durable;
  server_->Signal(SIGKILL);
  server_->Wait();

  StartServer();
  EXPECT_FALSE(server_->stubs().Info("h")->has_mixed_steps());
  const std::map<int64_t, ReadRow> found = ReadRows(&server_->stubs(), {});
  ASSERT_EQ(found.size(), ids.size());
  for (const auto& [class_id, row] : written) EXPECT_EQ(found.at(class_id).digest, row.digest) << class_id;
}

TEST_F(KillTest, EveryRowIsAsSomeCommittedStepLeftItAndTheFolderSaysSo) {
  enum Way { kInSteps, kInStepsAfterAStop, kInAStop, kInASave, kWays };
  for (int kill = 0; kill < Kills(); ++kill) {
    SCOPED_TRACE(absl::StrCat("kill ", kill));
    const Way way = static_cast<Way>(kill % kWays);
    Begin(kill);
    StartServer();
    const auto made = Open();
    ASSERT_TRUE(made.ok()) << made.status();
    int64_t stopped = 0;  // Steps that are on disk for certain.
    bool clean = false;
    Train(1 + static_cast<int64_t>(random_() % 30));
    // How long a stop or a save takes that is not cut off.
    absl::Duration whole_time;
    if (way == kInStepsAfterAStop || way == kInAStop) {
      stopped = steps_;
      whole_time = StopAndGoOn();
    } else if (way == kInASave) {
      stopped = steps_;
      const absl::Time begin = absl::Now();
      const absl::Status saved = Save("whole");
      ASSERT_TRUE(saved.ok()) << saved;
      whole_time = absl::Now() - begin;
    }
    ASSERT_FALSE(HasFailure());
    if (way == kInAStop) {
      Train(1 + static_cast<int64_t>(random_() % 20));
      clean = StopAndKill(whole_time);
    } else if (way == kInASave) {
      Train(1 + static_cast<int64_t>(random_() % 20));
      KillDuring(whole_time, [&] { Save("cut-off").IgnoreError(); });
      server_->Wait();
    } else {
      TrainUntilKilled(static_cast<int64_t>(random_() % 40));
    }
    ASSERT_FALSE(HasFailure());
    if (random_() % 2 == 0) {
      // Once more, while it reads what the first one left.
      server_ = std::make_unique<StoreServer>(server_options_);
      KillDuring(2 * start_time_, [] {});
      server_->Wait();
    }

    StartServer();
    CheckRows(stopped);
    // Long enough for rows to have left the slab.
    EXPECT_TRUE(steps_ < 20 || !rows_.empty());
    ASSERT_FALSE(HasFailure());
    const bool of_one_step = CheckWhatTheFolderSays();
    EXPECT_TRUE(of_one_step || !clean) << server_->Log();
    EXPECT_FALSE(of_one_step && (way == kInSteps || way == kInStepsAfterAStop)) << server_->Log();
    ASSERT_FALSE(HasFailure());
    CheckThatItGoesOn();
    ASSERT_FALSE(HasFailure());
    if (way == kInASave) {
      ASSERT_TRUE(server_->Stop().ok()) << server_->Log();
      StartServer();
      std::map<std::string, int64_t> saves = Saves();
      ASSERT_EQ(saves.count("whole"), 1u);
      EXPECT_EQ(saves["whole"], stopped);
      for (const auto& [name, step] : saves) CheckSave(name, step);
      ASSERT_FALSE(HasFailure());
    }
    server_.reset();
    std::filesystem::remove_all(server_options_.store);
  }
}

}  // namespace
}  // namespace myriad
