#include "client/run_folder.h"

#include <filesystem>
#include <string>

#include "client/job_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(RunFolderTest, ANewRunGetsAnEmptyFolderOrNone) {
  TempDir dir;
  const std::string path = dir.File("runs/first");
  const auto made = RunFolder::Create(path);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(std::filesystem::is_directory(path + "/logs"));
  const absl::Status again = RunFolder::Create(path).status();
  EXPECT_EQ(again.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.message()), HasSubstr(path + " is not empty"));
  EXPECT_TRUE(RunFolder::Join(path).ok());

  WriteText(dir.File("file"), "x");
  EXPECT_EQ(RunFolder::Create(dir.File("file")).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(RunFolder::Create(dir.File("file/below")).status().code(), absl::StatusCode::kFailedPrecondition);
  std::filesystem::create_directory(dir.File("empty"));
  EXPECT_TRUE(RunFolder::Create(dir.File("empty")).ok());
}

TEST(RunFolderTest, ARunThatReportedNothingLeavesNothing) {
  TempDir dir;
  for (const char* metrics : {"", static_cast<const char*>(nullptr)}) {
    const auto folder = RunFolder::Create(dir.File("run"));
    ASSERT_TRUE(folder.ok()) << folder.status();
    ASSERT_TRUE(folder->WriteConfig(config::v1::JobConfig()).ok());
    WriteText(folder->worker_log_path(0), "label 7 is out of range\n");
    if (metrics != nullptr) WriteText(folder->metrics_path(), metrics);
    EXPECT_TRUE(folder->RemoveIfNothingWasReported());
    EXPECT_FALSE(std::filesystem::exists(folder->path()));
  }

  const auto folder = RunFolder::Create(dir.File("run"));
  WriteText(folder->path() + "/notes", "mine");
  EXPECT_TRUE(folder->RemoveIfNothingWasReported());
  EXPECT_EQ(ReadText(folder->path() + "/notes"), "mine") << "what is not the run's stays";

  const auto saved = RunFolder::Create(dir.File("saved"));
  std::filesystem::create_directories(saved->saves_folder() + "/step-0000000005");
  EXPECT_EQ(saved->CheckUnused().code(), absl::StatusCode::kFailedPrecondition);
  WriteText(saved->saves_folder() + "/step-0000000005/manifest.textproto", "step: 5");
  EXPECT_FALSE(saved->RemoveIfNothingWasReported()) << "a run that told of no step yet but can be resumed";
  std::filesystem::remove(saved->saves_folder() + "/step-0000000005/manifest.textproto");
  EXPECT_TRUE(saved->RemoveIfNothingWasReported());

  const auto trained = RunFolder::Create(dir.File("trained"));
  WriteText(trained->metrics_path(), "{\"step\": 20}\n");
  WriteText(trained->worker_log_path(0), "step 20\n");
  EXPECT_FALSE(trained->RemoveIfNothingWasReported());
  EXPECT_EQ(ReadText(trained->worker_log_path(0)), "step 20\n");
}

TEST(RunFolderTest, WhatAKilledProcessWasWritingIsRemoved) {
  TempDir dir;
  const auto folder = RunFolder::Create(dir.File("run"));
  ASSERT_TRUE(folder.ok());
  std::filesystem::create_directories(folder->saves_folder() + "/step-0000000005");
  std::filesystem::create_directories(folder->path() + "/store/shard-0");
  std::filesystem::create_directories(folder->head_folder("made"));
  const std::string rows = folder->head_folder("made") + "/rows-00000-of-00001.safetensors";
  const std::vector<std::string> left = {folder->backbone_path() + ".tmp-17", rows + ".tmp-4242",
                                         folder->saves_folder() + "/step-0000000005/backbone.safetensors.tmp-1"};
  const std::vector<std::string> others = {folder->backbone_path(), rows, folder->path() + "/notes.tmp-mine",
                                           folder->path() + "/store/shard-0/file.tmp-17"};
  for (const std::string& path : left) WriteText(path, "x");
  for (const std::string& path : others) WriteText(path, "x");
  ASSERT_TRUE(folder->RemoveTemporaries().ok());
  for (const std::string& path : left) EXPECT_FALSE(std::filesystem::exists(path)) << path;
  for (const std::string& path : others) EXPECT_TRUE(std::filesystem::exists(path)) << path;
  std::filesystem::remove_all(folder->saves_folder());
  EXPECT_TRUE(folder->RemoveTemporaries().ok()) << "a run without saves";
}

TEST(RunFolderTest, ConfigurationAndHeadsAreReadBack) {
  TempDir dir;
  const auto folder = RunFolder::Create(dir.File("run"));
  ASSERT_TRUE(folder.ok());
  EXPECT_EQ(RunFolder::Open(folder->path()).status().code(), absl::StatusCode::kNotFound) << "no configuration yet";
  config::v1::JobConfig config;
  config.set_seed(5);
  ASSERT_TRUE(folder->WriteConfig(config).ok());
  for (const char* name : {"b", "a"}) {
    v1::HeadInfo info;
    info.mutable_head()->set_name(name);
    info.set_committed_steps(12);
    ASSERT_TRUE(folder->WriteHeadInfo(info).ok());
  }
  const auto opened = RunFolder::Open(folder->path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(LoadJobConfig(opened->config_path())->seed(), 5);
  EXPECT_THAT(*opened->HeadNames(), ElementsAre("a", "b"));
  EXPECT_EQ(opened->ReadHeadInfo("a")->committed_steps(), 12);
  EXPECT_THAT(std::string(opened->ReadHeadInfo("c").status().message()), HasSubstr("no head 'c'; it has a, b"));
  WriteText(opened->head_info_path("a"), "head {\n nam: 1 }");
  EXPECT_THAT(std::string(opened->ReadHeadInfo("a").status().message()), HasSubstr("head.textproto:2:5"));
  EXPECT_EQ(RunFolder::Open(dir.File("other")).status().code(), absl::StatusCode::kNotFound);
}

TEST(RunFolderTest, AFolderWithAnotherRunsResultsIsNotUnused) {
  for (const char* result : {"metrics.jsonl", "backbone.safetensors"}) {
    TempDir dir;
    const auto folder = RunFolder::Create(dir.File("run"));
    ASSERT_TRUE(folder.ok());
    ASSERT_TRUE(folder->WriteConfig({}).ok());
    EXPECT_EQ(folder->CheckUnused(), absl::OkStatus()) << "what the launcher made";
    WriteText(dir.File("run/") + result, "");
    const absl::Status used = folder->CheckUnused();
    EXPECT_EQ(used.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(used.message()), HasSubstr(dir.File("run/") + result + " is of another run"));
  }
}

TEST(RunFolderTest, PathsAreThoseOfTheContract) {
  TempDir dir;
  const auto folder = RunFolder::Create(dir.File("run"));
  ASSERT_TRUE(folder.ok());
  const std::string run = folder->path();
  EXPECT_EQ(folder->config_path(), run + "/config.textproto");
  EXPECT_EQ(folder->metrics_path(), run + "/metrics.jsonl");
  EXPECT_EQ(folder->backbone_path(), run + "/backbone.safetensors");
  EXPECT_EQ(folder->server_log_path(3), run + "/logs/server-3.log");
  EXPECT_EQ(folder->worker_log_path(0), run + "/logs/worker-0.log");
  EXPECT_EQ(folder->trace_path(1), run + "/logs/trace-1.json");
  EXPECT_EQ(folder->head_info_path("a"), run + "/head/a/head.textproto");
  EXPECT_EQ(folder->identities_path("a"), run + "/head/a/identities.tsv");
}

}  // namespace
}  // namespace myriad
