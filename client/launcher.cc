#include "client/launcher.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/child_process.h"
#include "client/file_util.h"
#include "client/local_shards.h"
#include "client/output_copy.h"
#include "client/run_folder.h"
#include "client/run_saves.h"
#include "client/run_shards.h"

namespace myriad {
namespace {

// The exit codes of a worker when another process of the run went first, and after the step that it was to stop with.
constexpr int kExitPeerLost = 3;
constexpr int kExitInterrupted = 130;
// How often stop_requests is asked even if no signal interrupted the wait.
constexpr absl::Duration kStopPoll = absl::Milliseconds(100);
// A worker that lost a peer may be gone before that peer: it knows the reason while the other still ends. So long the other is waited for.
constexpr absl::Duration kBlamePause = absl::Seconds(5);

using Environment = std::vector<std::pair<std::string, std::string>>;

// A socket that listens at a port of 127.0.0.1. Made here and inherited by worker 0, whose store accepts there: a port that were only
// looked for here might be somebody else's by the time that worker 0 listens.
class StoreSocket {
 public:
  StoreSocket() = default;
  ~StoreSocket() { Close(); }
  StoreSocket(const StoreSocket&) = delete;
  StoreSocket& operator=(const StoreSocket&) = delete;

  absl::Status Open() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return ErrnoStatus(errno, "socket");
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    sockaddr* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd_, any, size) != 0 || ::listen(fd_, SOMAXCONN) != 0 || ::getsockname(fd_, any, &size) != 0) {
      return ErrnoStatus(errno, "a free port of 127.0.0.1");
    }
    port_ = ntohs(address.sin_port);
    return absl::OkStatus();
  }
  // Worker 0 has it now: a connection must end with it.
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int fd() const { return fd_; }
  int port() const { return port_; }

 private:
  int fd_ = -1;
  int port_ = 0;
};

absl::Status CheckBeforeStart(const LaunchOptions& options) {
  for (const std::string& binary : {options.server_binary, options.worker_binary}) {
    if (::access(binary.c_str(), X_OK) != 0) return ErrnoStatus(errno, binary);
  }
  const auto check_folder = [](const std::string& field, const std::string& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat(field, " is ", path, "; there is no such folder"));
  };
  for (int i = 0; i < options.config.datasets_size(); ++i) {
    absl::Status status = check_folder(absl::StrCat("datasets[", i, "].path"), options.config.datasets(i).path());
    if (!status.ok()) return status;
  }
  for (int i = 0; i < options.config.verifications_size(); ++i) {
    absl::Status status = check_folder(absl::StrCat("verifications[", i, "].path"), options.config.verifications(i).path());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

RunSaves SavesOf(const RunFolder& folder) { return RunSaves(folder.saves_folder()); }

// Where servers keep their rows; "": in memory alone.
std::string StoreFolder(const config::v1::JobConfig& config, const RunFolder& folder) {
  const config::v1::LocalConfig& local = config.local();
  if (!local.store().empty()) return local.store();
  return config.training().keep_saves() > 0 || !local.memory().empty() ? JoinPath(folder.path(), "store") : "";
}

// Rows that nothing keeps would be gone with the servers.
absl::Status CheckRowsAreKept(const LaunchOptions& options, const RunFolder& folder) {
  using config::v1::TrainingConfig;
  if (options.config.training().final_rows() != TrainingConfig::FINAL_ROWS_NONE || !StoreFolder(options.config, folder).empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "training.final_rows is FINAL_ROWS_NONE, and the servers keep rows in memory alone "
      "(training.keep_saves is 0): nothing would be left of them; set local.store");
}

// "; saved after step 120: RUN/saves/step-0000000120; go on with: ...".
std::string LastSave(const RunFolder& folder) {
  const RunSaves saves = SavesOf(folder);
  const absl::StatusOr<std::vector<RunSaves::Entry>> entries = saves.List();
  for (size_t i = entries.ok() ? entries->size() : 0; i > 0; --i) {
    const RunSaves::Entry& entry = (*entries)[i - 1];
    if (!entry.made || !entry.state.ok()) continue;
    return absl::StrCat("; saved after step ", entry.manifest.step(), ": ", saves.PathOf(entry.name),
                        "; go on with: myriad train --resume --run-dir ", folder.path());
  }
  return "; nothing is saved";
}

// The run folder: a new one, or one that has a save for as many shards.
absl::StatusOr<RunFolder> FolderToRunIn(const LaunchOptions& options) {
  if (!options.resume) return RunFolder::Create(options.config.run_dir());
  absl::StatusOr<RunFolder> folder = RunFolder::Open(options.config.run_dir());
  if (!folder.ok()) return folder;
  std::vector<std::string> refused;  // The worker that takes the save tells.
  const absl::StatusOr<storage::v1::SaveManifest> manifest = SavesOf(*folder).Newest(&refused);
  if (!manifest.ok()) return manifest.status();
  const int shards = options.config.local().shards();
  for (const storage::v1::SavedHead& head : manifest->heads()) {
    if (head.shard_count() == shards) continue;
    return absl::FailedPreconditionError(absl::StrCat("the save after step ", manifest->step(), " has head ", head.name(), " on ",
                                                      head.shard_count(), " shards; the command says ", shards));
  }
  return RunFolder::Join(options.config.run_dir());
}

// The end of a worker that was asked to stop: after its step, or, so early that it was not at work yet, by the signal itself.
bool Stopped(const ProcessExit& exit) { return exit.signal == SIGTERM || (exit.signal == 0 && exit.code == kExitInterrupted); }

std::string Count(int count, absl::string_view what) { return absl::StrCat(count, " ", what, count == 1 ? "" : "s"); }

// One run under way. Its members go in the order that stops things well: workers, the copy of their output, servers.
class Run {
 public:
  Run(const LaunchOptions& options, const RunFolder& folder) : options_(options), folder_(folder), terminal_(options.output_fd) {}

  absl::Status Start();
  // Until all workers have ended well, or one process has not.
  absl::Status Watch();
  // After a request to stop: workers finish the step and save, unless asked again.
  absl::Status StopInOrder();
  void StopWorkers();

 private:
  int stop_requests() const { return options_.stop_requests ? options_.stop_requests() : 0; }
  absl::Status StartWorker(int rank, const StoreSocket& store);
  absl::Status Failure();

  const LaunchOptions& options_;
  const RunFolder folder_;
  TerminalWriter terminal_;
  ThreadDivision threads_;
  std::unique_ptr<LocalShards> shards_;
  std::unique_ptr<RunShards> announced_;
  std::unique_ptr<OutputCopy> output_;
  std::vector<std::unique_ptr<ChildProcess>> workers_;
};

absl::Status Run::Start() {
  const int servers = options_.config.local().shards();
  const int workers = options_.config.local().workers();
  threads_ = DivideThreads(options_.cores, servers, workers);
  terminal_.Write(absl::StrCat(Count(options_.cores, "core"), ": ", Count(servers, "shard"), " x ", Count(threads_.per_server, "thread"),
                               ", ", Count(workers, "worker"), " x ", Count(threads_.per_worker, "thread"), "; run folder ", folder_.path(),
                               "\n"));

  LocalShards::Options shards;
  shards.server_binary = options_.server_binary;
  shards.count = servers;
  shards.threads_per_server = threads_.per_server;
  shards.max_rows = options_.config.local().max_rows();
  shards.memory = options_.config.local().memory();
  shards.store = StoreFolder(options_.config, folder_);
  // After an unclean stop a server looks at all of its rows first.
  if (!shards.store.empty()) shards.start_timeout = absl::Hours(1);
  shards.log_dir = JoinPath(folder_.path(), "logs");
  shards.should_stop = [this] { return stop_requests() > 0; };
  shards.should_kill = [this] { return stop_requests() > 1; };
  absl::StatusOr<std::unique_ptr<LocalShards>> started = LocalShards::Start(shards);
  if (!started.ok()) return started.status();
  shards_ = *std::move(started);
  absl::StatusOr<std::unique_ptr<RunShards>> announced = RunShards::Announce(folder_.path(), shards_->addresses());
  if (!announced.ok()) return announced.status();
  announced_ = *std::move(announced);
  terminal_.Write(absl::StrCat("shards at ", absl::StrJoin(shards_->addresses(), ","), "\n"));

  absl::StatusOr<std::unique_ptr<OutputCopy>> output = OutputCopy::Start(&terminal_, folder_.worker_log_path(0));
  if (!output.ok()) return output.status();
  output_ = *std::move(output);
  StoreSocket store;
  if (absl::Status status = store.Open(); !status.ok()) return status;
  for (int rank = 0; rank < workers; ++rank) {
    if (absl::Status status = StartWorker(rank, store); !status.ok()) return status;
    if (rank == 0) store.Close();
  }
  return absl::OkStatus();
}

absl::Status Run::StartWorker(int rank, const StoreSocket& store) {
  ChildProcess::Options process;
  process.arguments = {options_.worker_binary,
                       "train",
                       "--config",
                       folder_.config_path(),
                       "--run-dir",
                       folder_.path(),
                       "--shards",
                       absl::StrJoin(shards_->addresses(), ","),
                       "--device",
                       options_.device,
                       "--threads",
                       absl::StrCat(threads_.per_worker)};
  if (const std::string store = StoreFolder(options_.config, folder_); !store.empty()) {
    process.arguments.insert(process.arguments.end(), {"--store", store});
  }
  for (const auto& [flag, given] :
       {std::make_pair("--trace", options_.trace), {"--resume", options_.resume}, {"--accept-mixed-steps", options_.accept_mixed_steps}}) {
    if (given) process.arguments.push_back(flag);
  }
  const std::string workers = absl::StrCat(options_.config.local().workers());
  process.environment = QuietOpenMp();
  for (const auto& [name, value] : Environment{
           {"RANK", absl::StrCat(rank)},
           {"LOCAL_RANK", absl::StrCat(rank)},
           {"WORLD_SIZE", workers},
           {"LOCAL_WORLD_SIZE", workers},
           {"MASTER_ADDR", "127.0.0.1"},
           {"MASTER_PORT", absl::StrCat(store.port())},
           // Of a torchrun around this command: its store is not this run's.
           {"TORCHELASTIC_USE_AGENT_STORE", "False"},
       }) {
    process.environment.emplace_back(name, value);
  }
  process.log_path = folder_.worker_log_path(rank);
  if (rank == 0) {
    process.stdout_fd = output_->write_fd();
    process.inherited_fd = store.fd();
    process.arguments.insert(process.arguments.end(), {"--store-fd", absl::StrCat(store.fd())});
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> worker = ChildProcess::Spawn(process);
  if (!worker.ok()) return worker.status();
  workers_.push_back(*std::move(worker));
  return absl::OkStatus();
}

absl::Status Run::Watch() {
  while (true) {
    if (stop_requests() > 0) return StopInOrder();
    std::vector<ChildProcess*> running;
    bool failed = false;
    for (const auto& worker : workers_) {
      const absl::optional<ProcessExit> exit = worker->Poll();
      if (!exit.has_value()) running.push_back(worker.get());
      failed = failed || (exit.has_value() && !exit->ok());
    }
    if (failed) return Failure();
    if (running.empty()) return absl::OkStatus();
    for (int k = 0; k < shards_->count(); ++k) {
      if (shards_->server(k).Poll().has_value()) return Failure();
      running.push_back(&shards_->server(k));
    }
    WaitForAnyExit(running, kStopPoll);
  }
}

absl::Status Run::StopInOrder() {
  for (const auto& worker : workers_) worker->Signal(SIGTERM);
  WaitForAllExits(workers_, absl::InfiniteDuration(), [this] { return stop_requests() > 1; });
  bool all_done = true;
  for (const auto& worker : workers_) {
    const absl::optional<ProcessExit> exit = worker->Poll();
    if (!exit.has_value()) return absl::CancelledError(absl::StrCat("interrupted at once", LastSave(folder_)));
    // The step, or the save, did not come to its end.
    if (!exit->ok() && !Stopped(*exit)) return Failure();
    all_done = all_done && exit->ok();
  }
  return all_done ? absl::OkStatus() : absl::CancelledError(absl::StrCat("interrupted", LastSave(folder_)));
}

// Names the process to blame: a server that is gone, else a worker that does not itself blame a peer.
absl::Status Run::Failure() {
  struct Ended {
    std::string name;
    ChildProcess* process;
    ProcessExit exit;
    absl::StatusCode code;
  };
  absl::optional<Ended> worst;
  int worst_blame = 0;
  std::vector<ChildProcess*> running;
  const auto consider = [&](const std::string& name, ChildProcess* process, bool is_server) {
    const absl::optional<ProcessExit> exit = process->Poll();
    // A server that a worker has given up is gone, or will not go.
    if (!exit.has_value() && !is_server) running.push_back(process);
    if (!exit.has_value()) return;
    if (!is_server && (exit->ok() || (stop_requests() > 0 && Stopped(*exit)))) return;
    const bool blames_peer = exit->signal == 0 && exit->code == kExitPeerLost;
    const int blame = is_server ? 3 : blames_peer ? 1 : 2;
    if (blame <= worst_blame) return;
    // A worker that ends by itself with another code says what is wrong: that will not go away.
    const bool lost = is_server || blames_peer || exit->signal != 0;
    worst = Ended{name, process, *exit, lost ? absl::StatusCode::kDataLoss : absl::StatusCode::kInternal};
    worst_blame = blame;
  };
  const absl::Time deadline = absl::Now() + kBlamePause;
  while (true) {
    running.clear();
    for (int k = 0; k < shards_->count(); ++k) consider(absl::StrCat("server-", k), &shards_->server(k), true);
    for (size_t rank = 0; rank < workers_.size(); ++rank) consider(absl::StrCat("worker-", rank), workers_[rank].get(), false);
    if (worst_blame >= 2 || running.empty() || absl::Now() >= deadline || stop_requests() > 0) break;
    WaitForAnyExit(running, std::min(kStopPoll, deadline - absl::Now()));
  }
  // Everything that it wrote is in its log before the log is read.
  if (!workers_.empty() && worst->process == workers_[0].get()) output_.reset();
  const std::string& log = worst->process->log_path();
  return absl::Status(worst->code,
                      absl::StrCat(worst->name, " ", worst->exit.Describe(), "; the end of ", log, ":\n", LastLines(log, kShownLogLines)));
}

void Run::StopWorkers() {
  for (const auto& worker : workers_) worker->Signal(SIGTERM);
  WaitForAllExits(workers_, options_.stop_grace, [this] { return stop_requests() > 1; });
  for (const auto& worker : workers_) worker->Terminate(absl::ZeroDuration());
}

}  // namespace

ThreadDivision DivideThreads(int cores, int servers, int workers) {
  return {std::max(1, cores / std::max(1, servers)), std::max(1, cores / std::max(1, workers))};
}

absl::Status LaunchTraining(const LaunchOptions& options) {
  if (absl::Status status = CheckBeforeStart(options); !status.ok()) return status;
  absl::StatusOr<RunFolder> folder = FolderToRunIn(options);
  if (!folder.ok()) return folder.status();
  absl::Status status = CheckRowsAreKept(options, *folder);
  if (status.ok()) status = folder->WriteConfig(options.config);
  if (status.ok()) {
    Run run(options, *folder);
    status = run.Start();
    if (status.ok()) status = run.Watch();
    run.StopWorkers();
  }
  // All processes are gone: nobody writes to the folder any more.
  if (status.ok() || options.resume || !folder->RemoveIfNothingWasReported()) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), absl::EndsWith(status.message(), "\n") ? "" : "; ",
                                                  "no step was reported: run folder ", folder->path(), " is removed"));
}

}  // namespace myriad
