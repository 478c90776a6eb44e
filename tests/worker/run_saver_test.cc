#include "worker/run_saver.h"

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "worker/peer_watch.h"

namespace myriad {
namespace {

using storage::v1::SaveManifest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The shards' part of saves, as names.
class FakeHeadSaves : public HeadSaves {
 public:
  absl::Status CheckPossible() override { return absl::OkStatus(); }
  absl::Status Save(int64_t incarnation, int64_t step, const std::string& save) override {
    if (!fail_with.ok()) return fail_with;
    kept[save] = step;
    last = {incarnation, step};
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> Restore(const std::string& save) override {
    restored.push_back(save);
    if (!restore_with.ok()) return restore_with;
    if (damaged.count(save) > 0) return absl::DataLossError("shard 1: the record of class 7 is damaged");
    const auto found = kept.find(save);
    if (found == kept.end()) return absl::NotFoundError("shard 1: no such save");
    return found->second;
  }
  absl::Status Drop(const std::string& save) override {
    kept.erase(save);
    return absl::OkStatus();
  }

  std::vector<std::string> Kept() const {
    std::vector<std::string> names;
    for (const auto& [name, step] : kept) names.push_back(name);
    return names;
  }

  std::map<std::string, int64_t> kept;  // With the head's committed steps.
  std::set<std::string> damaged;
  std::vector<std::string> restored;  // What was asked for.
  std::pair<int64_t, int64_t> last;
  absl::Status fail_with;
  absl::Status restore_with;
};

class RunSaverTest : public ::testing::Test {
 protected:
  RunSaverTest() {
    BackboneSpec spec;
    spec.width = 4;
    spec.image_size = 16;
    backbone_ = *MakeBackbone(spec, 1);
    std::vector<at::Tensor> parameters;
    for (const NamedTensor& entry : backbone_->Parameters()) parameters.push_back(entry.tensor);
    optimizer_ = std::make_unique<BackboneSgd>(*BackboneSgd::Create({}, parameters));
    EXPECT_TRUE(optimizer_->MakeMomenta().ok());
    collectives_ = *Collectives::Connect({});
    for (const char* name : {"ann", "bob"}) EXPECT_TRUE(catalogue_.Append(name).ok());
  }

  SaverHead Head() {
    SaverHead head;
    head.name = "faces";
    head.saves = &shards_;
    head.catalogue = &catalogue_;
    head.shard_count = 3;
    head.incarnation = 5;
    head.first_step = 1000;
    return head;
  }
  RunSaver Saver(int keep_saves = 2) {
    RunSaver::Parts parts;
    parts.network = {backbone_.get(), optimizer_.get(), collectives_.get()};
    parts.saves = saves_;
    parts.heads = {Head()};
    parts.image_count = 77;
    parts.keep_saves = keep_saves;
    return RunSaver(parts);
  }
  static RunPosition At(int64_t steps) {
    RunPosition position;
    position.steps = steps;
    position.skipped = 3;
    position.metrics_bytes = 99;
    return position;
  }
  std::vector<std::string> Folders() {
    std::vector<std::string> names;
    const absl::StatusOr<std::vector<RunSaves::Entry>> entries = saves_.List();
    for (const RunSaves::Entry& entry : *entries) names.push_back(entry.name);
    return names;
  }
  absl::StatusOr<SaveManifest> Find(const SaverHead& head, int64_t image_count = 77) {
    return RestoreSave(saves_, {head}, image_count, [this](const std::string& line) { printed_.push_back(line); });
  }

  TempDir dir_;
  RunSaves saves_{dir_.File("saves")};
  FakeHeadSaves shards_;
  std::unique_ptr<Backbone> backbone_;
  std::unique_ptr<BackboneSgd> optimizer_;
  std::unique_ptr<Collectives> collectives_;
  IdentityCatalogue catalogue_;
  std::vector<std::string> printed_;
};

TEST_F(RunSaverTest, ASaveTellsWhereTheRunAndItsHeadsStood) {
  RunSaver saver = Saver();
  const absl::Status status = saver.Save(At(40));
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(shards_.last, std::make_pair(int64_t{5}, int64_t{1040}));
  const absl::StatusOr<SaveManifest> manifest = Find(Head());
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->heads(0).committed_steps(), 1040);
  EXPECT_EQ(manifest->rank_count(), 1);
  EXPECT_THAT(shards_.Kept(), ElementsAre(manifest->heads(0).save()));
  std::vector<std::string> files;
  for (const auto& file : manifest->files()) files.push_back(file.name());
  EXPECT_THAT(files, ElementsAre("backbone.safetensors", "optimizer.safetensors"));
  const RunPosition position = PositionOf(*manifest);
  EXPECT_EQ(position.steps, 40);
  EXPECT_EQ(position.skipped, 3);
  EXPECT_EQ(position.metrics_bytes, 99);
}

TEST_F(RunSaverTest, TheNewestStayHereAndOnTheShards) {
  RunSaver saver = Saver(/*keep_saves=*/2);
  for (int64_t step : {10, 20, 30, 40}) ASSERT_TRUE(saver.Save(At(step)).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000030", "step-0000000040"));
  EXPECT_THAT(shards_.Kept(), ElementsAre("step-0000000030.5", "step-0000000040.5"));
}

TEST_F(RunSaverTest, WhatACutOffSaveLeftIsDroppedByTheNextRun) {
  RunSaver saver = Saver();
  ASSERT_TRUE(saver.Save(At(10)).ok());
  // Killed in a save: its plan is there, and some shard's part.
  SaveManifest plan = *saves_.Newest(&printed_);
  plan.set_step(20);
  plan.mutable_heads(0)->set_save("step-0000000020.5");
  ASSERT_TRUE(saves_.Begin(plan).ok());
  shards_.kept["step-0000000020.5"] = 1020;
  EXPECT_EQ(Find(Head())->step(), 10);
  EXPECT_THAT(Folders(), ElementsAre("step-0000000010", "step-0000000020"));

  RunSaver next = Saver();
  ASSERT_TRUE(next.DropAfter(10).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000010"));
  EXPECT_THAT(shards_.Kept(), ElementsAre("step-0000000010.5"));
}

TEST_F(RunSaverTest, ASaveThatFailsLeavesNothingAndTheNextOneIsMade) {
  RunSaver saver = Saver(/*keep_saves=*/2);
  for (int64_t step : {10, 20}) ASSERT_TRUE(saver.Save(At(step)).ok());
  for (int64_t step : {30, 40}) {
    // A shard is full; another one has its part already.
    shards_.kept[absl::StrCat(RunSaves::Name(step), ".5")] = 1000 + step;
    shards_.fail_with = absl::ResourceExhaustedError("disk full");
    EXPECT_EQ(saver.Save(At(step)), absl::ResourceExhaustedError("disk full"));
    EXPECT_THAT(Folders(), ElementsAre("step-0000000010", "step-0000000020"));
    EXPECT_THAT(shards_.Kept(), ElementsAre("step-0000000010.5", "step-0000000020.5"));
  }
  shards_.fail_with = absl::OkStatus();
  ASSERT_TRUE(saver.Save(At(50)).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000020", "step-0000000050"));

  // The worker's own disk: a folder is where the network should be.
  std::filesystem::create_directories(saves_.PathOf("step-0000000060", "backbone.safetensors/x"));
  EXPECT_FALSE(saver.Save(At(60)).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000020", "step-0000000050"));
  EXPECT_THAT(shards_.Kept(), ElementsAre("step-0000000020.5", "step-0000000050.5"));
}

TEST_F(RunSaverTest, LeftoversOfFailedSavesDoNotCountAsSaves) {
  RunSaver saver = Saver(/*keep_saves=*/2);
  for (int64_t step : {10, 20}) ASSERT_TRUE(saver.Save(At(step)).ok());
  for (int64_t step : {25, 27}) {
    SaveManifest plan;
    plan.set_step(step);
    ASSERT_TRUE(saves_.Begin(plan).ok());
  }
  ASSERT_TRUE(saver.Save(At(30)).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000020", "step-0000000030"));
}

TEST_F(RunSaverTest, ASaveThatAShardHasLostOrFindsDamagedIsToldOfAndTheOneBeforeIsTaken) {
  RunSaver saver = Saver(/*keep_saves=*/4);
  for (int64_t step : {10, 20, 30, 40}) ASSERT_TRUE(saver.Save(At(step)).ok());
  shards_.damaged.insert("step-0000000040.5");
  shards_.kept.erase("step-0000000030.5");
  shards_.kept["step-0000000020.5"] = 1019;
  const absl::StatusOr<SaveManifest> manifest = Find(Head());
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->step(), 10);
  EXPECT_THAT(shards_.restored, ElementsAre("step-0000000040.5", "step-0000000030.5", "step-0000000020.5", "step-0000000010.5"));
  ASSERT_EQ(printed_.size(), 3u);
  EXPECT_EQ(printed_[0],
            absl::StrCat("save ", saves_.PathOf("step-0000000040"), " is not whole: shard 1: the record of class 7 is damaged"));
  EXPECT_THAT(printed_[1], HasSubstr("no such save"));
  EXPECT_THAT(printed_[2], HasSubstr("have head faces in it after 1019 steps; the manifest says 1020"));

  shards_.kept.clear();
  const absl::Status none = Find(Head()).status();
  EXPECT_TRUE(absl::IsDataLoss(none)) << none;
  for (const char* step : {"40", "30", "20", "10"}) {
    EXPECT_THAT(std::string(none.message()), HasSubstr(absl::StrCat("step-00000000", step, " is not whole")));
  }
}

// An older save would be a wrong answer to a shard that is not there just now.
TEST_F(RunSaverTest, AShardThatCannotBeReachedEndsTheSearch) {
  RunSaver saver = Saver();
  for (int64_t step : {10, 20}) ASSERT_TRUE(saver.Save(At(step)).ok());
  shards_.restore_with = absl::UnavailableError("shard 1: cannot be reached");
  EXPECT_TRUE(IsPeerLost(Find(Head()).status()));
  shards_.restore_with = absl::FailedPreconditionError("shard 1: the head is open");
  EXPECT_EQ(Find(Head()).status(), shards_.restore_with);
  EXPECT_THAT(shards_.restored, ElementsAre("step-0000000020.5", "step-0000000020.5"));
}

TEST_F(RunSaverTest, ADamagedSaveIsToldOfAndDroppedOnceTheOneBeforeIsTaken) {
  RunSaver saver = Saver();
  for (int64_t step : {10, 20}) ASSERT_TRUE(saver.Save(At(step)).ok());
  WriteText(saves_.PathOf("step-0000000020", "optimizer.safetensors"), "nothing");
  EXPECT_EQ(Find(Head())->step(), 10);
  ASSERT_EQ(printed_.size(), 1u);
  EXPECT_THAT(printed_[0], HasSubstr("step-0000000020/optimizer.safetensors has 7 bytes"));
  ASSERT_TRUE(saver.DropAfter(10).ok());
  EXPECT_THAT(Folders(), ElementsAre("step-0000000010"));
  EXPECT_THAT(shards_.Kept(), ElementsAre("step-0000000010.5"));
}

TEST_F(RunSaverTest, ARunThatIsAnotherIsRefusedWithBothValues) {
  RunSaver saver = Saver();
  ASSERT_TRUE(saver.Save(At(10)).ok());
  const std::string save = saves_.PathOf("step-0000000010");
  SaverHead head = Head();
  EXPECT_EQ(Find(head, 78).status(), absl::FailedPreconditionError(save + " has 77 images; this run has 78"));
  head.shard_count = 2;
  EXPECT_EQ(Find(head).status(), absl::FailedPreconditionError(save + " has 3 shards of head faces; this run has 2"));
  head = Head();
  IdentityCatalogue other;
  head.catalogue = &other;
  for (const char* name : {"bob", "ann"}) ASSERT_TRUE(other.Append(name).ok());
  EXPECT_THAT(std::string(Find(head).status().message()), HasSubstr("other names of head faces's identities"));
  ASSERT_TRUE(other.Append("eve").ok());
  EXPECT_EQ(Find(head).status(), absl::FailedPreconditionError(save + " has 2 identities of head faces; this run has 3"));
  head = Head();
  head.name = "cars";
  EXPECT_EQ(Find(head).status(), absl::FailedPreconditionError(save + " has faces as head; this run has cars"));
}

}  // namespace
}  // namespace myriad
