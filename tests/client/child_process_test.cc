#include "client/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

constexpr absl::Duration kLong = absl::Seconds(30);

std::string LogPath(const std::string& name) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", name, ".", ::getpid(), ".log");
  ::unlink(path.c_str());
  return path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

ChildProcess::Options Shell(const std::string& script, const std::string& log_path) {
  ChildProcess::Options options;
  options.arguments = {"/bin/sh", "-c", script};
  options.log_path = log_path;
  return options;
}

TEST(ChildProcessTest, BothOutputsReachTheLogAndTheEnvironmentIsSet) {
  ChildProcess::Options options = Shell("echo out $GREETING; echo err $HOME_OF_TEST >&2; exit 3", LogPath("outputs"));
  options.environment = {{"GREETING", "hello world"}, {"HOME_OF_TEST", "here"}};
  auto child = ChildProcess::Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  const absl::optional<ProcessExit> exit = (*child)->Wait(kLong);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->code, 3);
  EXPECT_FALSE(exit->ok());
  EXPECT_EQ(exit->Describe(), "exited with code 3");
  EXPECT_EQ(ReadFile(options.log_path), "out hello world\nerr here\n");
}

TEST(ChildProcessTest, StdoutCanGoToAPipeOfTheParent) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ChildProcess::Options options = Shell("echo shown; echo kept >&2", LogPath("pipe"));
  options.stdout_fd = ends[1];
  auto child = ChildProcess::Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  ::close(ends[1]);
  char text[16] = {};
  EXPECT_EQ(::read(ends[0], text, sizeof(text)), 6);
  EXPECT_STREQ(text, "shown\n");
  ::close(ends[0]);
  ASSERT_TRUE((*child)->Wait(kLong).has_value());
  EXPECT_EQ(ReadFile(options.log_path), "kept\n");
}

TEST(ChildProcessTest, AMissingProgramIsNamed) {
  ChildProcess::Options options;
  options.arguments = {"/nowhere/myriad-server"};
  auto child = ChildProcess::Spawn(options);
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(child.status().message().find("/nowhere/myriad-server"), std::string::npos);
}

TEST(ChildProcessTest, TerminateLetsAProcessCleanUpWithinTheGrace) {
  const std::string log = LogPath("clean");
  auto child = ChildProcess::Spawn(Shell("trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done", log));
  ASSERT_TRUE(child.ok()) << child.status();
  while (ReadFile(log) != "ready\n") ASSERT_FALSE((*child)->Wait(absl::Milliseconds(5)).has_value());
  EXPECT_TRUE((*child)->Terminate(kLong).ok());
  EXPECT_EQ(ReadFile(log), "ready\ncleaned\n");
}

TEST(ChildProcessTest, TerminateKillsAProcessThatIgnoresIt) {
  const std::string log = LogPath("stubborn");
  auto child = ChildProcess::Spawn(Shell("trap '' TERM; echo ready; while :; do sleep 0.05; done", log));
  ASSERT_TRUE(child.ok()) << child.status();
  while (ReadFile(log) != "ready\n") ASSERT_FALSE((*child)->Wait(absl::Milliseconds(5)).has_value());
  const ProcessExit exit = (*child)->Terminate(absl::Milliseconds(100));
  EXPECT_EQ(exit.signal, SIGKILL);
  EXPECT_EQ(exit.Describe(), "was killed by signal 9 (Killed)");
}

TEST(ChildProcessTest, WaitForAnyExitTellsWhichOneEnded) {
  auto first = ChildProcess::Spawn(Shell("exec sleep 600", ""));
  auto second = ChildProcess::Spawn(Shell("exit 0", ""));
  ASSERT_TRUE(first.ok() && second.ok());
  const std::vector<ChildProcess*> children = {first->get(), second->get()};
  EXPECT_EQ(WaitForAnyExit(children, kLong), absl::optional<size_t>(1));
  EXPECT_FALSE((*first)->Poll().has_value());
  EXPECT_EQ(WaitForAnyExit(absl::MakeConstSpan(children).first(1), absl::Milliseconds(1)), absl::nullopt);
}

TEST(ChildProcessTest, NoOrphanIsLeftWhenTheParentIsKilled) {
  // A parent in between starts a grandchild, tells its pid, and is killed with SIGKILL. Its pipe end closes only once all holders are gone.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::close(ends[0]);
    auto child = ChildProcess::Spawn(Shell("exec sleep 600", ""));
    const pid_t pid = child.ok() ? (*child)->pid() : 0;
    (void)!::write(ends[1], &pid, sizeof(pid));
    ::pause();
    ::_exit(0);
  }
  ::close(ends[1]);
  pid_t grandchild = 0;
  ASSERT_EQ(::read(ends[0], &grandchild, sizeof(grandchild)), static_cast<ssize_t>(sizeof(grandchild)));
  ASSERT_GT(grandchild, 0);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  char byte;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0) << "the grandchild still holds the pipe";
  ::close(ends[0]);
}

TEST(LastLinesTest, GivesTheEndOfAFile) {
  const std::string path = LogPath("lines");
  {
    std::ofstream file(path);
    for (int i = 0; i < 100; ++i) file << "line " << i << "\n";
    file << "unfinished";
  }
  EXPECT_EQ(LastLines(path, 2), "line 99\nunfinished\n");
  EXPECT_EQ(LastLines(path, 1), "unfinished\n");
  EXPECT_EQ(LastLines(path, 0), "");
  EXPECT_EQ(LastLines(path, 1000).substr(0, 7), "line 0\n");
  EXPECT_EQ(LastLines("/nowhere/at/all", 5), "");
}

}  // namespace
}  // namespace myriad
