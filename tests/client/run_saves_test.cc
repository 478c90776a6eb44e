#include "client/run_saves.h"

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using storage::v1::SaveManifest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RunSavesTest : public ::testing::Test {
 protected:
  SaveManifest Plan(int64_t step) {
    SaveManifest plan;
    plan.set_step(step);
    plan.add_heads()->set_name("faces");
    // A number that decimal digits only hold if there are enough of them.
    plan.mutable_position()->mutable_window()->set_loss(1.0 / 3.0);
    return plan;
  }
  void Make(int64_t step) {
    ASSERT_TRUE(saves_.Begin(Plan(step)).ok());
    WriteText(saves_.PathOf(RunSaves::Name(step), "a"), "content of a");
    WriteText(saves_.PathOf(RunSaves::Name(step), "b"), "");
    const absl::Status status = saves_.Finish(Plan(step), {"a", "b"});
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Names(bool made) {
    std::vector<std::string> names;
    const absl::StatusOr<std::vector<RunSaves::Entry>> entries = saves_.List();
    for (const RunSaves::Entry& entry : *entries) {
      if (entry.made == made) names.push_back(entry.name);
    }
    return names;
  }
  absl::StatusOr<SaveManifest> Newest() { return saves_.Newest(&refused_); }

  TempDir dir_;
  RunSaves saves_{dir_.File("saves")};
  std::vector<std::string> refused_;
};

TEST_F(RunSavesTest, TheNewestSaveComesBackAsItWasMade) {
  EXPECT_TRUE(absl::IsNotFound(Newest().status()));
  for (int64_t step : {900, 1000, 20}) Make(step);
  EXPECT_THAT(Names(/*made=*/true), ElementsAre("step-0000000020", "step-0000000900", "step-0000001000"));
  const absl::StatusOr<SaveManifest> newest = Newest();
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_THAT(refused_, IsEmpty());
  EXPECT_EQ(newest->step(), 1000);
  EXPECT_EQ(newest->version(), 1);
  EXPECT_EQ(newest->heads(0).name(), "faces");
  EXPECT_EQ(newest->position().window().loss(), 1.0 / 3.0);
  ASSERT_EQ(newest->files_size(), 2);
  EXPECT_EQ(newest->files(0).bytes(), 12);
  EXPECT_NE(newest->files(0).xxh3(), newest->files(1).xxh3());
  EXPECT_EQ(saves_.Begin(Plan(1000)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(RunSavesTest, ASaveThatWasCutOffIsNoSave) {
  Make(1);
  ASSERT_TRUE(saves_.Begin(Plan(2)).ok());
  WriteText(saves_.PathOf(RunSaves::Name(2), "a"), "half");
  EXPECT_EQ(Newest()->step(), 1);
  EXPECT_THAT(refused_, IsEmpty());
  EXPECT_THAT(Names(/*made=*/false), ElementsAre("step-0000000002"));
  EXPECT_EQ(saves_.List()->back().manifest.heads(0).name(), "faces") << "its plan says what the shards may hold";
  ASSERT_TRUE(saves_.Remove(RunSaves::Name(2)).ok());
  EXPECT_THAT(Names(/*made=*/false), IsEmpty());
}

TEST_F(RunSavesTest, ASaveThatIsDamagedGivesWayToTheOneBeforeAndSaysWhy) {
  const std::string name = RunSaves::Name(2);
  struct Damage {
    std::string file, content, reason;
  };
  for (const Damage& damage : {Damage{"a", "Content of a", "has checksum"},
                               {"a", "content of", "has 10 bytes; the manifest says 12"},
                               {"manifest.textproto", "version: 2 step: 2", "has version 2"},
                               {"manifest.textproto", "step: x", ":1:7"}}) {
    SCOPED_TRACE(damage.reason);
    std::filesystem::remove_all(dir_.File("saves"));
    Make(1);
    Make(2);
    WriteText(saves_.PathOf(name, damage.file), damage.content);
    const absl::StatusOr<SaveManifest> newest = Newest();
    ASSERT_TRUE(newest.ok()) << newest.status();
    EXPECT_EQ(newest->step(), 1);
    ASSERT_EQ(refused_.size(), 1u);
    EXPECT_THAT(refused_[0], HasSubstr(saves_.PathOf(name)));
    EXPECT_THAT(refused_[0], HasSubstr(damage.reason));
    ASSERT_TRUE(saves_.Retire(RunSaves::Name(1)).ok());
    EXPECT_TRUE(absl::IsDataLoss(Newest().status())) << "there was one, and it is not whole";
  }
  std::filesystem::remove_all(dir_.File("saves"));
  Make(3);
  std::filesystem::remove(saves_.PathOf(RunSaves::Name(3), "b"));
  EXPECT_THAT(std::string(Newest().status().message()), HasSubstr("step-0000000003/b: No such file"));
}

TEST_F(RunSavesTest, ARetiredSaveIsNoneAndKeepsItsPlan) {
  Make(4);
  ASSERT_TRUE(saves_.Retire(RunSaves::Name(4)).ok());
  EXPECT_TRUE(absl::IsNotFound(Newest().status()));
  EXPECT_EQ(saves_.List()->front().manifest.heads(0).name(), "faces");
  EXPECT_TRUE(saves_.Retire(RunSaves::Name(4)).ok()) << "a repeat does nothing";
  ASSERT_TRUE(saves_.Remove(RunSaves::Name(4)).ok());
  EXPECT_THAT(*saves_.List(), IsEmpty());
}

}  // namespace
}  // namespace myriad
