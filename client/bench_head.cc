#include "client/bench_head.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "client/bench_check.h"
#include "client/bench_head_figures.h"
#include "client/bench_head_run.h"
#include "client/file_util.h"
#include "client/head_client.h"
#include "client/local_shards.h"

namespace myriad {
namespace {

absl::Status CheckOptions(const BenchHeadOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t lowest) {
    return value >= lowest ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; at least ", lowest));
  };
  for (const absl::Status& status :
       {at_least("--batch", options.batch, 1), at_least("--steps", options.steps, 1), at_least("--warmup-steps", options.warmup_steps, 1),
        at_least("--shards", options.shards, 1), at_least("--threads", options.threads, 0)}) {
    if (!status.ok()) return status;
  }
  if (options.store.empty() && (options.prefill || options.memory_bytes > 0)) {
    return absl::InvalidArgumentError("--memory and --prefill need --store, a folder on the disk to use");
  }
  if (!options.store.empty() && !std::filesystem::is_directory(options.store)) {
    return absl::InvalidArgumentError(absl::StrCat("--store ", options.store, " is no folder"));
  }
  if (options.json_path.empty()) return absl::OkStatus();
  const std::filesystem::path folder = std::filesystem::path(options.json_path).parent_path();
  const std::string checked = folder.empty() ? "." : folder.string();
  std::error_code error;
  if (std::filesystem::is_directory(options.json_path, error)) return ErrnoStatus(EISDIR, options.json_path);
  return ::access(checked.c_str(), W_OK | X_OK) == 0 ? absl::OkStatus() : ErrnoStatus(errno, checked);
}

// A folder of its own below the given one, which goes with the object.
class StoreFolder {
 public:
  static absl::StatusOr<std::unique_ptr<StoreFolder>> Make(const std::string& parent) {
    std::string path = parent + "/bench-head-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return ErrnoStatus(errno, path);
    return std::unique_ptr<StoreFolder>(new StoreFolder(path));
  }
  ~StoreFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  StoreFolder(const StoreFolder&) = delete;
  StoreFolder& operator=(const StoreFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit StoreFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

absl::Status Run(const BenchHeadOptions& options, std::ostream& out) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  // Wrong sizes are told before anything is started.
  if (absl::StatusOr<std::unique_ptr<HeadClient>> probe = HeadClient::Create(BenchHeadClientOptions(options, {"127.0.0.1:1"}));
      !probe.ok()) {
    return probe.status();
  }
  BenchHeadFigures figures;
  figures.threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  figures.threads_per_server = std::max(1, figures.threads / options.shards);
  at::set_num_threads(figures.threads);

  LocalShards::Options servers;
  servers.server_binary = options.server_binary;
  servers.count = options.shards;
  servers.threads_per_server = figures.threads_per_server;
  servers.should_stop = options.should_stop;
  std::unique_ptr<StoreFolder> folder;
  absl::StatusOr<std::unique_ptr<LocalShards>> shards = LocalShards::Start(servers);
  if (!shards.ok()) return shards.status();
  if (absl::Status status = CheckSmallSteps((*shards)->addresses(), options.placement); !status.ok()) return status;
  if (!options.store.empty()) {
    // Others, so that all memory is the measured head's.
    shards->reset();
    absl::StatusOr<std::unique_ptr<StoreFolder>> made = StoreFolder::Make(options.store);
    if (!made.ok()) return made.status();
    folder = *std::move(made);
    servers.store = folder->path();
    if (options.memory_bytes > 0) servers.memory = absl::StrCat(options.memory_bytes / options.shards);
    servers.should_kill = [] { return true; };  // What they would still write to the disk goes anyway.
    shards = LocalShards::Start(servers);
    if (!shards.ok()) return shards.status();
  }
  const absl::Status status = RunBenchHeadSteps(options, (*shards)->addresses(), &figures);
  shards->reset();  // Before its folder goes.
  if (!status.ok()) return status;
  PrintTable(options, figures, out);
  return options.json_path.empty() ? absl::OkStatus() : WriteFileAtomically(options.json_path, ToJson(options, figures));
}

}  // namespace

absl::Status RunBenchHead(const BenchHeadOptions& options, std::ostream& out) {
  try {
    return Run(options, out);
  } catch (const std::exception& error) {  // LibTorch throws, for example for want of memory.
    return absl::InternalError(absl::StrCat("the benchmark failed: ", error.what()));
  }
}

}  // namespace myriad
