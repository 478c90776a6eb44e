// myriad-worker: one rank of a training run, and the verbs on image data.

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "version.h"
#include "worker/collectives.h"
#include "worker/data/verbs.h"
#include "worker/launch_place.h"
#include "worker/peer_watch.h"
#include "worker/train_job.h"

namespace {

constexpr char kName[] = "myriad-worker";
constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitPeerLost = 3;
constexpr int kExitInterrupted = 130;
// A step that has not ended so long after a signal waits for somebody who will not come.
constexpr int kGraceSeconds = 20;

// `program` is what this process is called.
void PrintError(const std::string& program, const absl::Status& status) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", program.c_str(), std::string(status.message()).c_str());
  std::fflush(stderr);
}

// What the signals' thread and the work tell each other.
struct StopState {
  std::atomic<bool> stop{false};        // A signal came.
  std::atomic<bool> at_leisure{false};  // The work is at something that may take longer than a step.
};

// SIGINT and SIGTERM set `stop`; a second one, or a run that does not end in time, ends the process. Blocks both signals in this thread and
// in those that it starts: call first.
void HandleSignals(StopState* state) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, state] {
    int number = 0;
    sigwait(&signals, &number);
    state->stop.store(true);
    const timespec second = {1, 0};
    for (int seconds = 0; seconds < kGraceSeconds; seconds += state->at_leisure.load() ? 0 : 1) {
      if (sigtimedwait(&signals, nullptr, &second) >= 0) break;
    }
    _exit(kExitInterrupted);
  }).detach();
}

void AddTrainVerb(CLI::App& app, StopState* state, std::function<absl::Status()>* run) {
  struct Flags {
    myriad::TrainJobOptions options;
    std::string shards;
    int threads = 0;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* train = app.add_subcommand(
      "train", "One rank of a training run. torchrun's environment says which: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.");
  train->add_option("--config", flags->options.config_path, "Job configuration (myriad.config.v1.JobConfig, text format)")->required();
  train->add_option("--run-dir", flags->options.run_dir, "Run folder; made if it is missing")->required();
  train->add_option(
      "--store", flags->options.store,
      "Folder in which the shards keep their rows, if it is this machine's: the heads' catalogues lie there (default: the run "
      "folder)");
  train->add_option("--shards", flags->shards, "host:port of all shards in order, with commas")->required();
  train->add_option("--device", flags->options.device, "auto, cpu or cuda; one worker a GPU")->capture_default_str();
  train
      ->add_option("--threads", flags->threads,
                   "Threads of the backbone's arithmetic (default: the machine's cores divided among its workers)")
      ->check(CLI::Range(1, 4096));
  train->add_option("--store-fd", flags->options.rank.store_fd,
                    "Rank 0: an inherited socket that listens at MASTER_PORT already (as `myriad train` starts it)");
  train->add_flag("--trace", flags->options.trace, "Write what ran when to RUN/logs/trace-RANK.json (Chrome trace format)");
  train->add_flag("--resume", flags->options.resume,
                  "Go on from the newest save of the run folder; --config is the folder's config.textproto");
  train->add_flag("--accept-mixed-steps", flags->options.accept_mixed_steps,
                  "Train on from rows that an unclean stop of a shard left between two steps");
  train->callback([flags, state, run] {
    *run = [flags, state]() -> absl::Status {
      myriad::TrainJobOptions& options = flags->options;
      const absl::StatusOr<myriad::LaunchPlace> place =
          myriad::ReadLaunchPlace([](const char* name) { return std::getenv(name); }, options.rank);
      if (!place.ok()) return place.status();
      options.rank = place->rank;
      const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
      options.threads = flags->threads > 0 ? flags->threads : std::max(1, cores / place->local_rank_count);
      options.verification_threads = std::max(options.threads, std::min(cores, options.threads * place->local_rank_count));
      options.shard_addresses = absl::StrSplit(flags->shards, ',', absl::SkipEmpty());
      options.stop = &state->stop;
      options.at_leisure = &state->at_leisure;
      options.on_peer_lost = [](const absl::Status& lost) {
        PrintError(kName, lost);
        _exit(kExitPeerLost);
      };
      options.print = [](const std::string& line) {
        std::printf("%s\n", line.c_str());
        std::fflush(stdout);
      };
      return myriad::RunTrainJob(options);
    };
  });
}

// A training step frees and allocates the same large tensors. By default the C library gives them back to the kernel, which clears each
// page anew: a quarter of a step of the small network on the CPU.
void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
}

int Run(int argc, char** argv, StopState* state) {
  // `myriad data` becomes this program under that name.
  const std::string program = argc > 0 && argv[0] == std::string("myriad data") ? argv[0] : kName;
  CLI::App app("Trains the backbone against the heads' shards; packs, checks and renders image data.", program);
  app.set_version_flag("--version", absl::StrCat("myriad-worker ", myriad::kVersion));
  app.require_subcommand(1);
  app.failure_message(
      [&program](const CLI::App*, const CLI::Error& error) { return absl::StrCat(program, ": ", error.what(), "; see --help\n"); });
  std::function<absl::Status()> run;
  AddTrainVerb(app, state, &run);
  myriad::AddDataVerbs(app, &state->stop, &run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : kExitUsage;
  }
  absl::Status status;
  try {
    status = run();
  } catch (const std::exception& error) {  // Nothing should throw; memory may still run out anywhere.
    status = absl::InternalError(absl::StrCat("unexpected error: ", error.what()));
  }
  if (status.ok()) return 0;
  PrintError(program, status);
  if (absl::IsCancelled(status)) return kExitInterrupted;
  return myriad::IsPeerLost(status) ? kExitPeerLost : kExitError;
}

}  // namespace

int main(int argc, char** argv) {
  KeepFreedMemory();
  // Debian's Abseil looks for deadlocks whenever a mutex is locked, in a table that all threads share. The tests do so.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  myriad::SilenceCollectives();
  StopState state;
  HandleSignals(&state);
  const int code = Run(argc, argv, &state);
  std::fflush(stdout);
  std::fflush(stderr);
  // Not by return: the signal thread still waits, and static destructors must not run under it.
  _exit(code);
}
