#include "client/run_shards.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(RunShardsTest, ServersAreFoundWhileTheRunLives) {
  TempDir dir;
  const std::string path = dir.File("shards.txt");
  EXPECT_THAT(*RunShards::Find(dir.path()), IsEmpty());
  const std::vector<std::string> addresses = {"127.0.0.1:4001", "127.0.0.1:4002"};
  auto run = RunShards::Announce(dir.path(), addresses);
  ASSERT_TRUE(run.ok()) << run.status();
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(*RunShards::Find(dir.path()), ElementsAre("127.0.0.1:4001", "127.0.0.1:4002")) << "asking takes nothing";
  const auto second = RunShards::Announce(dir.path(), addresses);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(path));
  *run = nullptr;
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(RunShardsTest, WhatAKilledRunLeftIsNoRun) {
  TempDir dir;
  const std::string path = dir.File("shards.txt");
  WriteText(path, "127.0.0.1:4001\n127.0.0.1:4002\n127.0.0.1:4003\n");
  EXPECT_THAT(*RunShards::Find(dir.path()), IsEmpty());
  const auto next = RunShards::Announce(dir.path(), std::vector<std::string>{"127.0.0.1:5"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_THAT(*RunShards::Find(dir.path()), ElementsAre("127.0.0.1:5"));
}

}  // namespace
}  // namespace myriad
