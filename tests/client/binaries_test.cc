#include "client/binaries.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

void MakeProgram(const std::string& path) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  WriteText(path, "#!/bin/sh\n");
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
}

TEST(BinariesTest, AProgramLiesBesideThisOneOrWhereABuildHasIt) {
  TempDir dir;
  const std::string own = dir.File("client");
  std::filesystem::create_directories(own);
  const absl::Status missing = FindBinary(own, "server", "myriad-server").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(own + "/myriad-server"));
  EXPECT_THAT(std::string(missing.message()), HasSubstr(dir.File("server/myriad-server")));

  MakeProgram(dir.File("server/myriad-server"));
  EXPECT_EQ(*FindBinary(own, "server", "myriad-server"), dir.File("server/myriad-server"));
  MakeProgram(own + "/myriad-server");
  EXPECT_EQ(*FindBinary(own, "server", "myriad-server"), own + "/myriad-server");
}

TEST(BinariesTest, TheOwnFolderHoldsThisTest) { EXPECT_TRUE(std::filesystem::exists(*OwnFolder() + "/binaries_test")); }

}  // namespace
}  // namespace myriad
