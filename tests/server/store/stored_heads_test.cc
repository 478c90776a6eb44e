#include "server/store/stored_heads.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;

class StoredHeadsTest : public ::testing::Test {
 protected:
  void MakeFolder(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(dir_.File(path));
    WriteText(dir_.File(path + "/rows"), text);
  }
  std::string Rows(const std::string& path) { return ReadText(dir_.File(path + "/rows")); }
  bool Exists(const std::string& path) { return std::filesystem::exists(dir_.File(path)); }
  std::vector<std::string> Recover() {
    const absl::StatusOr<std::vector<std::string>> paths = heads_.Recover();
    EXPECT_TRUE(paths.ok()) << paths.status();
    return paths.ok() ? *paths : std::vector<std::string>();
  }

  TempDir dir_;
  StoredHeads heads_{dir_.path()};
};

TEST_F(StoredHeadsTest, AFolderTakesThePlaceOfAnother) {
  EXPECT_THAT(Recover(), ElementsAre());
  for (const std::string text : {"first", "second"}) {
    MakeFolder("restoring/faces", text);
    ASSERT_TRUE(heads_.PutInPlace("faces").ok());
    EXPECT_EQ(Rows("heads/faces"), text);
    EXPECT_FALSE(Exists("restoring/faces"));
    EXPECT_FALSE(Exists("replaced/faces"));
  }
  EXPECT_THAT(Recover(), ElementsAre(heads_.PathOf("faces")));
}

TEST_F(StoredHeadsTest, WithoutAFolderToComeTheOldOneStays) {
  MakeFolder("heads/faces", "old");
  Recover();
  EXPECT_FALSE(heads_.PutInPlace("faces").ok());
  EXPECT_EQ(Rows("heads/faces"), "old");
}

// One that is at work would lose what it is about to put in place.
TEST_F(StoredHeadsTest, AStoreThatAnotherHasIsLeftAlone) {
  MakeFolder("heads/faces", "old");
  Recover();
  MakeFolder("restoring/faces", "new");
  StoredHeads other(dir_.path());
  const absl::Status refused = other.Recover().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(refused.message().find(dir_.path()), std::string::npos) << refused;
  ASSERT_TRUE(heads_.PutInPlace("faces").ok());
  EXPECT_EQ(Rows("heads/faces"), "new");
}

// The states that a kill can leave, in the order of PutInPlace()'s doings.
TEST_F(StoredHeadsTest, WheneverItIsKilledAHeadHasOneOfTheTwo) {
  MakeFolder("heads/making", "old");
  MakeFolder("restoring/making", "half");
  MakeFolder("replaced/aside", "old");
  MakeFolder("restoring/aside", "new");
  MakeFolder("replaced/placed", "old");
  MakeFolder("heads/placed", "new");
  EXPECT_THAT(Recover(), ElementsAre(heads_.PathOf("aside"), heads_.PathOf("making"), heads_.PathOf("placed")));
  EXPECT_EQ(Rows("heads/making"), "old");
  EXPECT_EQ(Rows("heads/aside"), "old");
  EXPECT_EQ(Rows("heads/placed"), "new");
  for (const std::string head : {"making", "aside", "placed"}) {
    EXPECT_FALSE(Exists("restoring/" + head)) << head;
    EXPECT_FALSE(Exists("replaced/" + head)) << head;
  }
}

}  // namespace
}  // namespace myriad
