#include "client/launcher.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/job_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

// Serves nothing: says an address and stays until it is stopped. $PIDS is the folder for its process id.
constexpr char kServer[] = R"(#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --address-file ] && file=$2; shift; done
echo $$ > $PIDS/server-$$
echo 127.0.0.1:1 > $file.tmp && mv $file.tmp $file
exec sleep 600
)";

std::string WorkerScript(const std::string& body) {
  return "#!/bin/sh\necho $$ > $PIDS/worker-$RANK.tmp && mv $PIDS/worker-$RANK.tmp $PIDS/worker-$RANK\n" + body;
}

void WriteProgram(const std::string& path, const std::string& text, const std::string& pids) {
  WriteText(path, absl::StrReplaceAll(text, {{"$PIDS", pids}}));
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
}

// True once no process has the id; waits for its end, at most a minute.
bool IsGone(pid_t pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return errno == ESRCH;
  pollfd waited = {fd, POLLIN, 0};
  const int ready = ::poll(&waited, 1, 60000);
  ::close(fd);
  return ready == 1;
}

class LauncherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(dir_.File("pids"));
    std::filesystem::create_directories(dir_.File("data"));
    WriteProgram(dir_.File("myriad-server"), kServer, dir_.File("pids"));
    ASSERT_EQ(::pipe(output_), 0);
  }
  void TearDown() override {
    CloseOutput();
    ::close(output_[0]);
  }

  LaunchOptions Options(const std::string& worker_body, int shards, int workers) {
    WriteProgram(dir_.File("myriad-worker"), WorkerScript(worker_body), dir_.File("pids"));
    LaunchOptions options;
    auto config =
        ParseJobConfig(absl::StrCat("heads { spec { name: 'a' } } backbone { small_resnet {} } datasets { path: '", dir_.File("data"),
                                    "' } local { shards: ", shards, " workers: ", workers, " } run_dir: '", RunDir(), "'"),
                       "job");
    EXPECT_TRUE(config.ok() && FillDefaults(&*config).ok()) << config.status();
    options.config = *config;
    options.server_binary = dir_.File("myriad-server");
    options.worker_binary = dir_.File("myriad-worker");
    options.cores = 5;
    options.output_fd = output_[1];
    return options;
  }

  std::string RunDir() const { return dir_.File("run"); }

  // What went to the terminal. The launch is over.
  std::string Output() {
    CloseOutput();
    std::string text;
    char buffer[4096];
    ssize_t count = 0;
    while ((count = ::read(output_[0], buffer, sizeof(buffer))) > 0) text.append(buffer, count);
    return text;
  }

  // Launches, and asks `requests` times for a stop once a worker has said "ready".
  absl::Status LaunchAndStopWhenReady(LaunchOptions options, int requests) {
    std::atomic<int> asked{0};
    options.stop_requests = [&asked] { return asked.load(); };
    std::thread reader([&] {
      std::string seen;
      char c;
      while (seen.find("ready") == std::string::npos && ::read(output_[0], &c, 1) == 1) seen += c;
      asked = requests;
    });
    const absl::Status status = LaunchTraining(options);
    reader.join();
    return status;
  }

  // Every process that started is gone. Returns how many there were.
  int CheckAllGone() {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.File("pids"))) {
      int pid = 0;
      EXPECT_TRUE(absl::SimpleAtoi(ReadText(entry.path().string()), &pid));
      EXPECT_TRUE(IsGone(pid)) << entry.path();
      ++count;
    }
    return count;
  }

  void CloseOutput() {
    if (output_[1] >= 0) ::close(output_[1]);
    output_[1] = -1;
  }

  TempDir dir_;
  int output_[2] = {-1, -1};
};

TEST_F(LauncherTest, WorkersGetTheirPlaceAndTheirEnd) {
  LaunchOptions options = Options(
      "echo rank $RANK of $WORLD_SIZE, local $LOCAL_RANK of $LOCAL_WORLD_SIZE at $MASTER_ADDR\n"
      "echo $OMP_WAIT_POLICY $GOMP_SPINCOUNT; echo error $RANK >&2; echo \"$@\"; [ $MASTER_PORT -gt 0 ]",
      /*shards=*/2, /*workers=*/3);
  options.trace = true;
  const absl::Status status = LaunchTraining(options);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(CheckAllGone(), 5);
  const std::string arguments =
      absl::StrCat("train --config ", RunDir(), "/config.textproto --run-dir ", RunDir(),
                   " --shards 127.0.0.1:1,127.0.0.1:1 --device auto --threads 1 --store ", RunDir(), "/store --trace");
  EXPECT_THAT(Output(), ::testing::MatchesRegex(
                            absl::StrCat("5 cores: 2 shards x 2 threads, 3 workers x 1 thread; run folder ", RunDir(),
                                         "\nshards at 127.0.0.1:1,127.0.0.1:1\nrank 0 of 3, local 0 of 3 at 127.0.0.1\nPASSIVE 0\n",
                                         arguments, " --store-fd [0-9]+\n")));
  const std::string log = ReadText(RunDir() + "/logs/worker-0.log");
  EXPECT_THAT(log, HasSubstr("rank 0 of 3"));
  EXPECT_THAT(log, HasSubstr("error 0"));
  EXPECT_THAT(ReadText(RunDir() + "/logs/worker-2.log"), HasSubstr("rank 2 of 3, local 2 of 3"));
  EXPECT_THAT(ReadText(RunDir() + "/logs/worker-2.log"), HasSubstr(arguments + "\n"));
  EXPECT_TRUE(std::filesystem::exists(RunDir() + "/logs/server-1.log"));
  const auto config = LoadJobConfig(RunDir() + "/config.textproto");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->training().batch_size(), 128);
}

TEST_F(LauncherTest, AWorkerThatDiesEndsTheRunWithItsLastLines) {
  const absl::Status status = LaunchTraining(
      Options("if [ $RANK = 1 ]; then i=0; while [ $i -lt 30 ]; do i=$((i + 1)); echo line $i; done; exit 7; fi\nexec sleep 600", 2, 3));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << "its own error: starting again would not help";
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr(absl::StrCat("worker-1 exited with code 7; the end of ", RunDir(), "/logs/worker-1.log:\nline 11\n")));
  EXPECT_TRUE(absl::EndsWith(message, absl::StrCat("line 30\nno step was reported: run folder ", RunDir(), " is removed"))) << message;
  EXPECT_FALSE(std::filesystem::exists(RunDir()));
  EXPECT_GE(CheckAllGone(), 3);
}

// Its peers notice (code 3) and are gone before it; still it is the one that is named.
TEST_F(LauncherTest, TheProcessToBlameIsNamedRatherThanItsPeers) {
  const absl::Status status =
      LaunchTraining(Options("if [ $RANK = 2 ]; then\n"
                             "  while [ ! -f $PIDS/worker-0 ]; do :; done\n"
                             "  while kill -0 $(cat $PIDS/worker-0) 2>/dev/null; do :; done\n"
                             "  kill -9 $$\n"
                             "fi\necho peer lost; exit 3",
                             1, 3));
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker-2 was killed by signal 9"));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "a worker was lost: the run can be started again";
  CheckAllGone();
}

TEST_F(LauncherTest, WorkersThatAllBlameAPeerHaveLostIt) {
  const absl::Status status = LaunchTraining(Options("exit 3", 1, 2));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(" exited with code 3"));
}

TEST_F(LauncherTest, ARunThatReportedAStepKeepsItsFolder) {
  const absl::Status status = LaunchTraining(Options(absl::StrCat("echo '{}' > ", RunDir(), "/metrics.jsonl; echo bad; exit 1"), 1, 1));
  EXPECT_TRUE(absl::EndsWith(status.message(), "/logs/worker-0.log:\nbad\n")) << status;
  EXPECT_EQ(ReadText(RunDir() + "/logs/worker-0.log"), "bad\n");
  EXPECT_EQ(LaunchTraining(Options("exit 0", 1, 1)).code(), absl::StatusCode::kFailedPrecondition);
}

// Nobody else can take the port between the launch and worker 0: the socket that it inherits listens already.
TEST_F(LauncherTest, TheStoresSocketIsWorkerZerosAlone) {
  const absl::Status status =
      LaunchTraining(Options("port=$(printf %04X $MASTER_PORT)\n"
                             "listener=$(awk -v at=0100007F:$port '$2 == at && $4 == \"0A\" { print $10 }' /proc/net/tcp)\n"
                             "[ -n \"$listener\" ] || { echo nobody listens; exit 1; }\n"
                             "held=$(ls -l /proc/$$/fd | grep -c \"socket:.$listener.\")\n"
                             "echo \"$@\" | grep -q -e --store-fd && expected=1 || expected=0\n"
                             "[ $held = $expected ] || { echo rank $RANK holds $held; exit 1; }\n"
                             "[ $RANK = 0 ] || exit 0\n"
                             "[ $expected = 1 ] && while [ ! -f $PIDS/worker-1 ] || kill -0 $(cat $PIDS/worker-1) 2>/dev/null; do :; done",
                             1, 2));
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(LauncherTest, WorkerZerosLastWordsAreInItsLog) {
  const absl::Status status = LaunchTraining(Options("echo last words; exit 1", 1, 1));
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker-0 exited with code 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("last words\n"));
  EXPECT_THAT(Output(), HasSubstr("last words\n"));
}

TEST_F(LauncherTest, AServerThatDiesEndsTheRunEvenIfItExitsWell) {
  WriteProgram(dir_.File("myriad-server"), absl::StrReplaceAll(kServer, {{"exec sleep 600", "read line < $PIDS.fifo; echo gone"}}),
               dir_.File("pids"));
  ASSERT_EQ(::mkfifo((dir_.File("pids") + ".fifo").c_str(), 0600), 0);
  const absl::Status status = LaunchTraining(Options("echo > $PIDS.fifo; exec sleep 600", 1, 1));
  EXPECT_THAT(std::string(status.message()), HasSubstr("server-0 exited with code 0"));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "its rows went with it";
  EXPECT_THAT(std::string(status.message()), HasSubstr("gone\n"));
  EXPECT_EQ(CheckAllGone(), 2);
}

TEST_F(LauncherTest, AServerThatDoesNotComeUpIsTold) {
  WriteProgram(dir_.File("myriad-server"), "#!/bin/sh\necho cannot listen; exit 1\n", dir_.File("pids"));
  const absl::Status status = LaunchTraining(Options("exit 0", 1, 1));
  EXPECT_THAT(std::string(status.message()), HasSubstr("server-0 exited with code 1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot listen\n"));
}

TEST_F(LauncherTest, AStopRequestStopsEverything) {
  LaunchOptions options = Options("trap 'echo stopped well; exit 130' TERM; echo ready; while :; do read line < $PIDS.fifo; done", 2, 1);
  ASSERT_EQ(::mkfifo((dir_.File("pids") + ".fifo").c_str(), 0600), 0);
  const absl::Status status = LaunchAndStopWhenReady(options, /*requests=*/1);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("interrupted; nothing is saved; no step was reported"));
  EXPECT_THAT(Output(), HasSubstr("stopped well"));
  EXPECT_EQ(CheckAllGone(), 3);
}

TEST_F(LauncherTest, AWorkerThatDoesNotStopIsKilledByTheSecondRequest) {
  LaunchOptions options = Options("trap '' TERM; echo ready; while :; do read line < $PIDS.fifo; done", 1, 2);
  ASSERT_EQ(::mkfifo((dir_.File("pids") + ".fifo").c_str(), 0600), 0);
  options.stop_grace = absl::Hours(1);
  const absl::Status status = LaunchAndStopWhenReady(options, /*requests=*/2);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  CheckAllGone();
}

constexpr char kSave[] =
    "mkdir -p $RUN/saves/step-0000000007; echo '{}' > $RUN/metrics.jsonl\n"
    "echo 'version: 1 step: 7 heads { name: \"a\" shard_count: 2 }' > $RUN/saves/step-0000000007/manifest.textproto\n";

TEST_F(LauncherTest, AStopTellsWhatIsSavedAndHowToGoOn) {
  const std::string save = absl::StrReplaceAll(kSave, {{"$RUN", RunDir()}});
  LaunchOptions options =
      Options("save() {\n" + save + "exit 130; }\ntrap save TERM; echo ready; while :; do read line < $PIDS.fifo; done", 1, 1);
  ASSERT_EQ(::mkfifo((dir_.File("pids") + ".fifo").c_str(), 0600), 0);
  options.stop_grace = absl::ZeroDuration();  // Saving is not hurried.
  const absl::Status status = LaunchAndStopWhenReady(options, /*requests=*/1);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(status.message(), absl::StrCat("interrupted; saved after step 7: ", RunDir(),
                                           "/saves/step-0000000007; go on with: myriad train --resume --run-dir ", RunDir()));
  CheckAllGone();
}

TEST_F(LauncherTest, AStopWhoseSaveFailsIsAnErrorOfTheWorker) {
  LaunchOptions options = Options("trap 'echo disk full; exit 1' TERM; echo ready; while :; do read line < $PIDS.fifo; done", 1, 1);
  ASSERT_EQ(::mkfifo((dir_.File("pids") + ".fifo").c_str(), 0600), 0);
  const absl::Status status = LaunchAndStopWhenReady(options, /*requests=*/1);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("disk full"));
}

TEST_F(LauncherTest, AResumedRunTellsItsWorkersAndKeepsItsFolder) {
  LaunchOptions options = Options("exit 0", 2, 1);
  options.resume = true;
  EXPECT_EQ(LaunchTraining(options).code(), absl::StatusCode::kNotFound) << "no folder";
  ASSERT_TRUE(LaunchTraining(Options(absl::StrReplaceAll(kSave, {{"$RUN", RunDir()}}) + "exit 1", 2, 1)).code() ==
              absl::StatusCode::kInternal);
  options = Options("echo \"$@\"; exit 1", 2, 1);
  options.resume = true;
  EXPECT_THAT(std::string(LaunchTraining(options).message()), HasSubstr("--resume"));
  EXPECT_TRUE(std::filesystem::exists(RunDir() + "/saves/step-0000000007"));

  options.config.mutable_local()->set_shards(3);
  const absl::Status status = LaunchTraining(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "the save after step 7 has head a on 2 shards; the command says 3");
  std::filesystem::remove_all(RunDir() + "/saves");
  EXPECT_EQ(LaunchTraining(options).code(), absl::StatusCode::kNotFound) << "no save";
}

TEST_F(LauncherTest, ServersGetTheirStoreAndMemory) {
  // The loop that looks for --address-file shifts them away.
  WriteProgram(dir_.File("myriad-server"), absl::StrReplaceAll(kServer, {{"while [ $# -gt 0 ]", "echo \"$@\"; while [ $# -gt 0 ]"}}),
               dir_.File("pids"));
  LaunchOptions options = Options("exit 0", 2, 1);
  ASSERT_TRUE(LaunchTraining(options).ok());
  EXPECT_THAT(ReadText(RunDir() + "/logs/server-1.log"), HasSubstr(absl::StrCat(" --store ", RunDir(), "/store/shard-1")));
  EXPECT_TRUE(std::filesystem::is_directory(RunDir() + "/store/shard-1"));

  options.config.set_run_dir(dir_.File("second"));
  options.config.mutable_training()->set_keep_saves(0);
  ASSERT_TRUE(LaunchTraining(options).ok());
  EXPECT_EQ(ReadText(dir_.File("second/logs/server-1.log")).find("--store"), std::string::npos) << "in memory alone";

  options.config.set_run_dir(dir_.File("third"));
  options.config.mutable_local()->set_memory("2GiB");
  options.config.mutable_local()->set_store(dir_.File("elsewhere"));
  ASSERT_TRUE(LaunchTraining(options).ok());
  EXPECT_THAT(ReadText(dir_.File("third/logs/server-0.log")),
              HasSubstr(absl::StrCat(" --store ", dir_.File("elsewhere/shard-0"), " --memory 2GiB")));
}

TEST_F(LauncherTest, WhatCannotStartLeavesNoRunFolder) {
  LaunchOptions options = Options("exit 0", 1, 1);
  options.worker_binary = dir_.File("nothing");
  EXPECT_THAT(std::string(LaunchTraining(options).message()), HasSubstr(dir_.File("nothing")));
  options = Options("exit 0", 1, 1);
  options.config.mutable_datasets(0)->set_path("/nowhere");
  EXPECT_EQ(LaunchTraining(options).message(), "datasets[0].path is /nowhere; there is no such folder");
  EXPECT_FALSE(std::filesystem::exists(RunDir()));

  options = Options("exit 0", 1, 1);
  std::filesystem::create_directories(RunDir());
  WriteText(RunDir() + "/mine", "x");
  const absl::Status status = LaunchTraining(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(RunDir() + " is not empty"));
  EXPECT_EQ(ReadText(RunDir() + "/mine"), "x");
}

TEST(ThreadDivisionTest, CoresAreSharedAndEveryProcessHasOne) {
  for (const auto& [cores, servers, workers, per_server, per_worker] :
       std::vector<std::array<int, 5>>{{2, 2, 2, 1, 1}, {16, 2, 4, 8, 4}, {2, 7, 3, 1, 1}, {7, 2, 2, 3, 3}, {1, 1, 1, 1, 1}}) {
    const ThreadDivision division = DivideThreads(cores, servers, workers);
    EXPECT_EQ(division.per_server, per_server);
    EXPECT_EQ(division.per_worker, per_worker);
  }
}

}  // namespace
}  // namespace myriad
