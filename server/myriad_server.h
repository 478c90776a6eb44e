#ifndef MYRIAD_SERVER_MYRIAD_SERVER_H_
#define MYRIAD_SERVER_MYRIAD_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace myriad {

// One shard behind gRPC: CenterShard, ShardPeer and ShardAdmin, with health checks and reflection. Holds threads and sockets, no state of
// the process: several may live in one. Thread-safe.
class MyriadServer {
 public:
  struct Options {
    std::string listen = "127.0.0.1:0";           // host:port; port 0 lets the system choose.
    int64_t max_rows = 0;                         // Of each head; 0: no limit.
    std::string store;                            // Folder that keeps the heads; empty: in memory alone.
    int64_t memory_bytes = 0;                     // For the rows of all heads; 0: no limit but the machine's.
    int threads = 1;                              // That run steps. How many threads one step uses is LibTorch's setting.
    int max_message_mib = 1024;                   // In [1, 2047].
    std::function<void(const std::string&)> log;  // Told what takes long at the start. May be empty.
  };

  // Serves when it returns. Errors: INVALID_ARGUMENT (an option out of range, named), FAILED_PRECONDITION (the address or the store is in
  // use), UNAVAILABLE (it cannot be bound), those of Shard::OpenStored().
  static absl::StatusOr<std::unique_ptr<MyriadServer>> Start(const Options& options);

  // Stop().
  virtual ~MyriadServer() = default;
  // host:port as bound.
  virtual const std::string& address() const = 0;
  // Answers waiting calls with UNAVAILABLE, closes the socket, waits for what is running, and closes the store. Later calls do nothing.
  // Errors: those of Shard::CloseStored().
  virtual absl::Status Stop() = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_MYRIAD_SERVER_H_
