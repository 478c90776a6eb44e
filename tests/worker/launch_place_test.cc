#include "worker/launch_place.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace myriad {
namespace {

absl::StatusOr<LaunchPlace> Read(const std::map<std::string, std::string>& environment) {
  return ReadLaunchPlace([&environment](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(LaunchPlaceTest, WithoutALauncherItIsTheOneRankOfARun) {
  const auto place = Read({});
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->rank.rank, 0);
  EXPECT_EQ(place->rank.rank_count, 1);
  EXPECT_EQ(place->local_rank_count, 1);
  EXPECT_FALSE(place->rank.launcher_has_store);
}

TEST(LaunchPlaceTest, TorchrunsEnvironmentIsTaken) {
  const auto place = Read({{"RANK", "5"},
                           {"WORLD_SIZE", "8"},
                           {"LOCAL_RANK", "1"},
                           {"LOCAL_WORLD_SIZE", "4"},
                           {"MASTER_ADDR", "10.0.0.7"},
                           {"MASTER_PORT", "65535"},
                           {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                           {"TORCHELASTIC_RESTART_COUNT", "2"}});
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->rank.rank, 5);
  EXPECT_EQ(place->rank.rank_count, 8);
  EXPECT_EQ(place->rank.local_rank, 1);
  EXPECT_EQ(place->local_rank_count, 4);
  EXPECT_EQ(place->rank.master_address, "10.0.0.7");
  EXPECT_EQ(place->rank.master_port, 65535);
  EXPECT_TRUE(place->rank.launcher_has_store);
  EXPECT_EQ(place->rank.run_id, "2");
}

TEST(LaunchPlaceTest, ALauncherWhoseStoreIsAnothersLeavesItToRankZero) {
  EXPECT_FALSE(Read({{"TORCHELASTIC_USE_AGENT_STORE", "False"}})->rank.launcher_has_store);
}

TEST(LaunchPlaceTest, AValueOutOfRangeIsNamedWithItsRange) {
  struct Case {
    std::map<std::string, std::string> environment;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{{"WORLD_SIZE", "0"}}, "WORLD_SIZE is \"0\"; it must be a number in [1, 1048576]"},
      {{{"WORLD_SIZE", "two"}}, "WORLD_SIZE is \"two\""},
      {{{"RANK", "1"}}, "RANK is \"1\"; it must be a number in [0, 0]"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "4"}}, "RANK is \"-1\"; it must be a number in [0, 3]"},
      {{{"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "5"}}, "LOCAL_WORLD_SIZE is \"5\"; it must be a number in [1, 4]"},
      {{{"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}}, "LOCAL_RANK is \"2\"; it must be a number in [0, 1]"},
      // 16 bits of it would be another port.
      {{{"MASTER_PORT", "70000"}}, "MASTER_PORT is \"70000\"; it must be a number in [1, 65535]"},
      {{{"MASTER_PORT", ""}}, "MASTER_PORT is \"\""},
  };
  for (const Case& bad : cases) {
    const absl::Status status = Read(bad.environment).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad.message;
    EXPECT_NE(status.message().find(bad.message), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace myriad
