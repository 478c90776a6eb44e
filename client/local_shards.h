#ifndef MYRIAD_CLIENT_LOCAL_SHARDS_H_
#define MYRIAD_CLIENT_LOCAL_SHARDS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/child_process.h"

namespace myriad {

// K `myriad-server` processes on 127.0.0.1, each at a port that the system picked. Stopped with this object; killed by the kernel if this
// process goes without that. Thread-compatible; as ChildProcess::Spawn, made by a thread that outlives it.
class LocalShards {
 public:
  struct Options {
    std::string server_binary;
    int count = 1;               // K, at least 1.
    int threads_per_server = 0;  // Compute threads; the server's default when 0.
    int64_t max_rows = 0;        // Per head and server; no limit when 0.
    std::string store;           // Server K keeps its rows on disk in STORE/shard-K; in memory alone when empty.
    std::string memory;          // Of each server, as "2GiB"; no limit when empty.
    std::string log_dir;         // For server-K.log. A private folder that goes with this object when empty.
    absl::Duration start_timeout = absl::Seconds(60);
    std::function<bool()> should_stop;  // Asked while they start; true gives up. Never when empty.
    std::function<bool()> should_kill;  // Asked while they stop; true kills them at once. Never when empty.
  };

  // Starts them and waits until all serve. Errors: NOT_FOUND (no such binary), INTERNAL naming the server that ended or did not come up,
  // with its last log lines, CANCELLED (`should_stop`); others of the system.
  static absl::StatusOr<std::unique_ptr<LocalShards>> Start(const Options& options);

  // As Stop(), whatever comes of it.
  ~LocalShards();

  // SIGTERM to all, a few seconds for a clean stop, with a store what it takes to write rows to it (none once `should_kill`), then SIGKILL.
  // Errors: INTERNAL naming the first server that did not end well, with its last log lines. Only addresses() may be called afterwards.
  absl::Status Stop();

  // host:port of each, in order.
  const std::vector<std::string>& addresses() const { return addresses_; }
  int count() const { return static_cast<int>(servers_.size()); }
  ChildProcess& server(int index) { return *servers_[index]; }

 private:
  LocalShards() = default;

  std::string private_dir_;
  std::function<bool()> should_kill_;
  absl::Duration stop_grace_;
  std::vector<std::unique_ptr<ChildProcess>> servers_;
  std::vector<std::string> addresses_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_LOCAL_SHARDS_H_
