#include "client/local_shards.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/file_util.h"

namespace myriad {
namespace {

constexpr absl::Duration kStopGrace = absl::Seconds(5);
// Rows that a run has not saved, out of memory onto a slow disk.
constexpr absl::Duration kStoreStopGrace = absl::Minutes(30);
constexpr absl::Duration kAddressPoll = absl::Milliseconds(10);

std::string ServerName(int index) { return absl::StrCat("server-", index); }

// "" until the server has written it.
std::string ReadAddress(const std::string& path) {
  std::ifstream file(path);
  std::string address;
  std::getline(file, address);
  return address;
}

absl::Status BadEnd(int index, const ChildProcess& server, const std::string& what) {
  return absl::InternalError(
      absl::StrCat(ServerName(index), " ", what, "; the end of its log:\n", LastLines(server.log_path(), kShownLogLines)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalShards>> LocalShards::Start(const Options& options) {
  if (options.count < 1) return absl::InvalidArgumentError(absl::StrCat(options.count, " shards; at least 1"));
  std::unique_ptr<LocalShards> shards(new LocalShards());
  shards->should_kill_ = options.should_kill;
  shards->stop_grace_ = options.store.empty() ? kStopGrace : kStoreStopGrace;
  std::error_code no_temporary;
  const std::filesystem::path temporary = std::filesystem::temp_directory_path(no_temporary);
  if (no_temporary) {
    const char* const given = ::getenv("TMPDIR");
    return absl::NotFoundError(
        absl::StrCat("the folder for temporary files, TMPDIR ", given == nullptr ? "/tmp" : given, ": ", no_temporary.message()));
  }
  std::string dir = (temporary / "myriad-shards-XXXXXX").string();
  if (::mkdtemp(dir.data()) == nullptr) return ErrnoStatus(errno, dir);
  shards->private_dir_ = dir;
  const std::string log_dir = options.log_dir.empty() ? dir : options.log_dir;
  const auto address_file = [&dir](int k) { return absl::StrCat(dir, "/", ServerName(k), ".address"); };

  for (int k = 0; k < options.count; ++k) {
    ChildProcess::Options process;
    process.arguments = {options.server_binary, "--listen", "127.0.0.1:0", "--address-file", address_file(k)};
    if (options.threads_per_server > 0)
      process.arguments.insert(process.arguments.end(), {"--threads", absl::StrCat(options.threads_per_server)});
    if (options.max_rows > 0) process.arguments.insert(process.arguments.end(), {"--max-rows", absl::StrCat(options.max_rows)});
    if (!options.store.empty()) {
      const std::string folder = JoinPath(options.store, absl::StrCat("shard-", k));
      if (absl::Status status = MakeFolders(folder); !status.ok()) return status;
      process.arguments.insert(process.arguments.end(), {"--store", folder});
    }
    if (!options.memory.empty()) process.arguments.insert(process.arguments.end(), {"--memory", options.memory});
    process.environment = QuietOpenMp();
    process.log_path = absl::StrCat(log_dir, "/", ServerName(k), ".log");
    absl::StatusOr<std::unique_ptr<ChildProcess>> server = ChildProcess::Spawn(process);
    if (!server.ok()) return server.status();
    shards->servers_.push_back(*std::move(server));
  }
  const absl::Time deadline = absl::Now() + options.start_timeout;
  for (int k = 0; k < options.count; ++k) {
    ChildProcess& server = *shards->servers_[k];
    std::string address;
    while ((address = ReadAddress(address_file(k))).empty()) {
      if (const absl::optional<ProcessExit> exit = server.Wait(kAddressPoll); exit.has_value()) {
        return BadEnd(k, server, exit->Describe());
      }
      if (options.should_stop && options.should_stop()) return absl::CancelledError("stopped while the servers started");
      if (absl::Now() > deadline)
        return BadEnd(k, server, absl::StrCat("did not serve within ", absl::FormatDuration(options.start_timeout)));
    }
    shards->addresses_.push_back(address);
  }
  return shards;
}

absl::Status LocalShards::Stop() {
  for (const std::unique_ptr<ChildProcess>& server : servers_) {
    server->Signal(SIGTERM);
    server->Signal(SIGCONT);  // One that somebody stopped would not see it.
  }
  WaitForAllExits(servers_, stop_grace_, should_kill_);
  absl::Status status;
  for (size_t k = 0; k < servers_.size() && status.ok(); ++k) {
    const absl::optional<ProcessExit> exit = servers_[k]->Poll();
    if (exit.has_value() && exit->ok()) continue;
    status = BadEnd(static_cast<int>(k), *servers_[k], exit.has_value() ? exit->Describe() : "did not stop in time");
  }
  servers_.clear();
  return status;
}

LocalShards::~LocalShards() {
  (void)Stop();
  std::error_code ignored;  // What is left of a temporary folder harms nobody.
  if (!private_dir_.empty()) std::filesystem::remove_all(private_dir_, ignored);
}

}  // namespace myriad
