#include "client/local_shards.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

// A stand-in for the server: a shell script that gets the server's arguments ($4 is the address file).
std::string Script(const std::string& name, const std::string& body) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", name, ".", ::getpid(), ".sh");
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  ::chmod(path.c_str(), 0755);
  return path;
}

LocalShards::Options WithServer(const std::string& binary, int count) {
  LocalShards::Options options;
  options.server_binary = binary;
  options.count = count;
  return options;
}

TEST(LocalShardsTest, AddressesAreThoseThatTheServersWroteAndNoServerIsLeft) {
  const std::string script = Script("serves", R"(
    echo "args $*"
    echo "127.0.0.1:$$" > "$4.tmp" && mv "$4.tmp" "$4"
    exec sleep 600)");
  pid_t pids[2];
  {
    LocalShards::Options options = WithServer(script, 2);
    options.threads_per_server = 3;
    options.max_rows = 77;
    auto shards = LocalShards::Start(options);
    ASSERT_TRUE(shards.ok()) << shards.status();
    ASSERT_EQ((*shards)->count(), 2);
    for (int k = 0; k < 2; ++k) {
      pids[k] = (*shards)->server(k).pid();
      EXPECT_EQ((*shards)->addresses()[k], absl::StrCat("127.0.0.1:", pids[k]));
      const std::string log = LastLines((*shards)->server(k).log_path(), 20);
      EXPECT_NE(log.find("--listen 127.0.0.1:0 "), std::string::npos) << log;
      EXPECT_NE(log.find("--threads 3 --max-rows 77"), std::string::npos) << log;
    }
  }
  for (pid_t pid : pids) EXPECT_EQ(::kill(pid, 0), -1) << pid << " still runs";
}

TEST(LocalShardsTest, AServerThatEndsIsToldWithItsLastWords) {
  const auto shards = LocalShards::Start(WithServer(Script("ends", "echo 'port in use' >&2; exit 1"), 1));
  EXPECT_EQ(shards.status(), absl::InternalError("server-0 exited with code 1; the end of its log:\nport in use\n"));
}

TEST(LocalShardsTest, AServerThatNeverServesIsNotWaitedForForever) {
  LocalShards::Options options = WithServer(Script("hangs", "exec sleep 600"), 1);
  options.start_timeout = absl::Milliseconds(50);
  const auto shards = LocalShards::Start(options);
  EXPECT_NE(shards.status().message().find("server-0 did not serve within 50ms"), std::string::npos) << shards.status();
}

// Whoever cannot wait for a clean stop says so, and is not kept for the seconds that it may take.
TEST(LocalShardsTest, AServerThatDoesNotStopIsKilledWhenAsked) {
  LocalShards::Options options =
      WithServer(Script("stays", "trap '' TERM; echo 127.0.0.1:1 > \"$4.tmp\" && mv \"$4.tmp\" \"$4\"; while :; do sleep 600; done"), 1);
  int asked = 0;
  options.should_kill = [&asked] { return ++asked > 0; };
  auto shards = LocalShards::Start(options);
  ASSERT_TRUE(shards.ok()) << shards.status();
  const pid_t pid = (*shards)->server(0).pid();
  shards->reset();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(::kill(pid, 0), -1);
}

TEST(LocalShardsTest, AFolderForTemporaryFilesThatIsMissingIsNamed) {
  const char* const before = ::getenv("TMPDIR");
  const std::string restored = before == nullptr ? "/tmp" : before;
  ::setenv("TMPDIR", "/nowhere/at/all", 1);
  const absl::Status status = LocalShards::Start(WithServer(Script("unused", "exit 1"), 1)).status();
  ::setenv("TMPDIR", restored.c_str(), 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("TMPDIR /nowhere/at/all"), std::string::npos) << status;
}

TEST(LocalShardsTest, AMissingBinaryIsNamed) {
  EXPECT_EQ(LocalShards::Start(WithServer("/nowhere/myriad-server", 1)).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace myriad
