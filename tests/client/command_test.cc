// The `myriad` program itself: what it prints, its exit codes, and that nothing outlives it.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/child_process.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kMyriad[] = "client/myriad";

std::unique_ptr<ChildProcess> Start(std::vector<std::string> arguments, const std::string& log, int stdout_fd = -1) {
  ChildProcess::Options options;
  arguments.insert(arguments.begin(), kMyriad);
  options.arguments = std::move(arguments);
  options.log_path = log;
  options.stdout_fd = stdout_fd;
  // A command that is killed cannot clean up.
  options.environment = {{"TMPDIR", std::filesystem::path(log).parent_path().string()}};
  absl::StatusOr<std::unique_ptr<ChildProcess>> process = ChildProcess::Spawn(options);
  EXPECT_TRUE(process.ok()) << process.status();
  return process.ok() ? *std::move(process) : nullptr;
}

struct Result {
  ProcessExit exit;
  std::string output;
};

Result RunCommand(const std::vector<std::string>& arguments) {
  TempDir dir;
  std::unique_ptr<ChildProcess> process = Start(arguments, dir.File("log"));
  if (process == nullptr) return {};
  absl::optional<ProcessExit> exit = process->Wait(absl::Minutes(2));
  EXPECT_TRUE(exit.has_value());
  return {exit.value_or(ProcessExit()), ReadText(dir.File("log"))};
}

TEST(CommandTest, HelpNamesEveryVerbAndEveryVerbHasAnExample) {
  const Result top = RunCommand({"--help"});
  EXPECT_EQ(top.exit.code, 0);
  for (const char* verb : {"train", "data", "query", "admin", "bench", "--version"}) EXPECT_THAT(top.output, HasSubstr(verb));
  for (const std::vector<std::string>& verb : std::vector<std::vector<std::string>>{{"train", "--help"},
                                                                                    {"query", "head", "--help"},
                                                                                    {"query", "centers", "--help"},
                                                                                    {"admin", "export", "--help"},
                                                                                    {"admin", "import", "--help"},
                                                                                    {"admin", "grow", "--help"},
                                                                                    {"bench", "head", "--help"},
                                                                                    {"data", "pack", "--help"},
                                                                                    {"data", "check", "--help"},
                                                                                    {"data", "glyphs", "--help"}}) {
    const Result help = RunCommand(verb);
    EXPECT_EQ(help.exit.code, 0);
    EXPECT_THAT(help.output, HasSubstr("Example"));
    EXPECT_THAT(help.output, HasSubstr("  myriad " + verb[0]));
  }
  EXPECT_THAT(RunCommand({"--version"}).output, StartsWith("myriad 0."));
}

TEST(CommandTest, BadInputIsOneLineWithTheOffendingValue) {
  TempDir dir;
  WriteText(dir.File("bad.textproto"), "training {\n  batchsize: 3 }\n");
  WriteText(dir.File("good.textproto"), absl::StrCat("heads { spec { name: 'a' } } backbone { small_resnet {} } run_dir: '",
                                                     dir.File("run"), "' datasets { path: '", dir.path(), "' }"));
  const std::string good = dir.File("good.textproto");
  struct Case {
    std::vector<std::string> arguments;
    int code;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{"trian"}, 2, "trian"},
      {{}, 2, "say what to do"},
      {{"query"}, 2, "myriad query --help"},
      {{"train"}, 2, "--config is required"},
      {{"train", "--config", good, "--shards", "0"}, 2, "0"},
      {{"train", "--config", "/nowhere.textproto"}, 1, "/nowhere.textproto: No such file"},
      {{"train", "--config", dir.File("bad.textproto")}, 1, "bad.textproto:2:12: Message type"},
      {{"train", "--config", good, "--set", "training.batch_size=0"}, 1, "--set training.batch_size=0: training.batch_size is 0"},
      {{"train", "--config", good, "--workers", "200"}, 1, "good.textproto: training.batch_size is 128; it must be >= 200"},
      {{"train", "--config", good, "--set", "datasets[0].path=/nowhere", "--server-binary", "/bin/true", "--worker-binary", "/bin/true"},
       1,
       "datasets[0].path is /nowhere; there is no such folder"},
      {{"train", "--config", good, "--server-binary", "/nowhere/server", "--worker-binary", "/bin/true"}, 1, "/nowhere/server"},
      {{"train", "--resume", "--run-dir", dir.path()}, 1, "is not a run folder"},
      {{"train", "--resume"}, 2, "--run-dir"},
      {{"train", "--resume", "--run-dir", dir.path(), "--config", good}, 2, "excludes"},
      {{"query", "head", "--run", dir.path()}, 1, "is not a run folder"},
      {{"query", "head", "--shards", "nonsense"}, 1, "'nonsense' is no shard address"},
      {{"query", "head", "--run", "a", "--shards", "b:1"}, 2, "excludes"},
      {{"admin"}, 2, "myriad admin --help"},
      {{"admin", "export", "--run", dir.path()}, 2, "--out is required"},
      {{"admin", "export", "--out", dir.File("out")}, 1, "say which servers: --shards host:port,..., --run DIR"},
      {{"admin", "export", "--run", dir.path(), "--out", dir.File("out"), "--dtype", "int8"}, 2, "--dtype"},
      {{"admin", "import", "--shards", "nonsense", "--from", dir.path()}, 1, "'nonsense' is no shard address"},
      {{"admin", "import", "--run", dir.path(), "--from", dir.path()}, 1, "no run goes on there, so it has no servers; --store"},
      {{"admin", "import", "--store", dir.path(), "--from", dir.path(), "--server-binary", "/bin/true"}, 1, "no shard-0 in it"},
      {{"admin", "grow", "--store", dir.path(), "--shards", "a:1"}, 2, "--store"},
      {{"query", "stats", "--run", dir.path()}, 1, "no run goes on there; these are figures of servers"},
      {{"admin", "grow", "--shards", "a:1"}, 1, "either --identities FILE with --catalogue FILE, or --classes N"},
      {{"bench", "head", "--warmup-steps", "0"}, 2, "--warmup-steps"},
      {{"bench", "head", "--server-binary", "/nowhere/server", "--json", "/nowhere/out.json"}, 1, "/nowhere: No such file"},
      {{"data", "pack"}, 2, "--src is required"},
      {{"data", "check", "/nowhere"}, 1, "/nowhere"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(absl::StrCat("expects ", bad.message));
    const Result result = RunCommand(bad.arguments);
    EXPECT_EQ(result.exit.code, bad.code);
    EXPECT_THAT(result.output, StartsWith(!bad.arguments.empty() && bad.arguments[0] == "data" ? "myriad data: " : "myriad: "));
    EXPECT_THAT(result.output, HasSubstr(bad.message));
    EXPECT_EQ(result.output.find('\n'), result.output.size() - 1) << result.output;
  }
  EXPECT_FALSE(std::filesystem::exists(dir.File("run")));
}

// Scripts in the place of myriad-server and myriad-worker, and a job for them.
class StandIns {
 public:
  StandIns() {
    Program("server",
            "while [ $# -gt 0 ]; do [ \"$1\" = --address-file ] && file=$2; shift; done\n"
            "echo 127.0.0.1:1 > $file.tmp && mv $file.tmp $file\nexec sleep 600\n");
    WriteText(File("job.textproto"), absl::StrCat("heads { spec { name: 'a' } } backbone { small_resnet {} } datasets { path: '",
                                                  dir_.path(), "' } run_dir: '", File("run"), "'"));
  }
  void WriteWorker(const std::string& body) { Program("worker", body); }
  std::string File(const std::string& name) const { return dir_.File(name); }
  // Of a command with two of each.
  std::vector<std::string> TrainArguments() const {
    return {"train", "--config",        File("job.textproto"), "--shards",        "2",           "--workers",
            "2",     "--server-binary", File("server"),        "--worker-binary", File("worker")};
  }

 private:
  // Each leaves its process id behind.
  void Program(const std::string& name, const std::string& body) {
    std::filesystem::create_directories(File("pids"));
    WriteText(File(name), absl::StrCat("#!/bin/sh\n: > ", File("pids"), "/$$\n", body, "\n"));
    EXPECT_EQ(::chmod(File(name).c_str(), 0755), 0);
  }

  TempDir dir_;
};

TEST(CommandTest, ARunThatLostAProcessHasACodeOfItsOwn) {
  for (const auto& [worker, code] : std::vector<std::pair<std::string, int>>{{"exit 1", 1}, {"exit 3", 3}, {"kill -9 $$", 3}, {"", 0}}) {
    SCOPED_TRACE(absl::StrCat("worker: ", worker));
    StandIns programs;
    programs.WriteWorker(worker);
    EXPECT_EQ(RunCommand(programs.TrainArguments()).exit.code, code);
  }
}

// A run of two servers and two workers that stay until they are stopped.
class StandInRun {
 public:
  StandInRun() {
    programs_.WriteWorker("echo ready\nexec sleep 600");
    EXPECT_EQ(::pipe2(output_, O_CLOEXEC), 0);
    myriad_ = Start(programs_.TrainArguments(), programs_.File("log"), output_[1]);
    ::close(output_[1]);
    // Both servers serve by then; worker 1 may still be starting.
    char c;
    while (seen_.find("ready") == std::string::npos && ::read(output_[0], &c, 1) == 1) seen_ += c;
    EXPECT_THAT(seen_, HasSubstr("ready"));
  }
  ~StandInRun() { ::close(output_[0]); }

  ChildProcess& myriad() { return *myriad_; }

  // Waits until every process that wrote its id is gone.
  void ExpectAllGone() {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(programs_.File("pids"))) {
      int pid = 0;
      ASSERT_TRUE(absl::SimpleAtoi(entry.path().filename().string(), &pid));
      ++count;
      const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
      if (fd < 0) {
        EXPECT_EQ(errno, ESRCH);
        continue;
      }
      pollfd waited = {fd, POLLIN, 0};
      EXPECT_EQ(::poll(&waited, 1, 60000), 1) << "process " << pid << " outlived the run";
      ::close(fd);
    }
    EXPECT_GE(count, 3) << "two servers and worker 0 at least";
  }

 private:
  StandIns programs_;
  int output_[2] = {-1, -1};
  std::string seen_;
  std::unique_ptr<ChildProcess> myriad_;
};

TEST(CommandTest, CtrlCStopsTheRunAndLeavesNoProcess) {
  for (int number : {SIGINT, SIGTERM}) {
    StandInRun run;
    run.myriad().Signal(number);
    const absl::optional<ProcessExit> exit = run.myriad().Wait(absl::Minutes(2));
    ASSERT_TRUE(exit.has_value());
    EXPECT_EQ(exit->code, 130) << exit->Describe();
    run.ExpectAllGone();
  }
}

TEST(CommandTest, CtrlCEndsABenchmarkAndLeavesNoFile) {
  TempDir dir;
  std::filesystem::create_directory(dir.File("temporary"));
  const std::string fifo = dir.File("started");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  WriteText(dir.File("server"), absl::StrCat("#!/bin/sh\necho started > ", fifo, "\nexec sleep 600\n"));
  ASSERT_EQ(::chmod(dir.File("server").c_str(), 0755), 0);
  const auto myriad = Start({"bench", "head", "--server-binary", dir.File("server")}, dir.File("temporary/log"));
  ASSERT_NE(myriad, nullptr);
  EXPECT_EQ(ReadText(fifo), "started\n") << "waits until the server runs";
  myriad->Signal(SIGINT);
  const absl::optional<ProcessExit> exit = myriad->Wait(absl::Minutes(2));
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->code, 130) << exit->Describe();
  std::filesystem::remove(dir.File("temporary/log"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.File("temporary")));
}

TEST(CommandTest, NothingOutlivesAKilledCommand) {
  StandInRun run;
  run.myriad().Signal(SIGKILL);
  ASSERT_TRUE(run.myriad().Wait(absl::Minutes(2)).has_value());
  run.ExpectAllGone();
}

}  // namespace
}  // namespace myriad
