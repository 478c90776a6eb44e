#ifndef MYRIAD_TESTS_CHAOS_STORE_SERVER_H_
#define MYRIAD_TESTS_CHAOS_STORE_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/child_process.h"
#include "tests/testing/server/shard_stubs.h"
#include "tests/testing/temp_dir.h"

namespace myriad {

// A myriad-server process that keeps its heads in a folder, and one that speaks to it by hand. It computes with one thread.
// Thread-compatible; as ChildProcess::Spawn, made by a thread that outlives it.
class StoreServer {
 public:
  struct Options {
    std::string store;
    int64_t memory_bytes = 0;           // --memory; 0: no limit.
    std::vector<std::string> launcher;  // Stands before the command, e.g. setpriv.
  };

  // Does not wait.
  explicit StoreServer(const Options& options);

  // Waits until it serves; false if it ended before that.
  bool WaitUntilItServes();
  // Requires: it serves.
  ShardStubs& stubs() { return *stubs_; }
  const std::string& address() const { return address_; }

  void Signal(int signal) { process_->Signal(signal); }
  // Waits for its end.
  ProcessExit Wait();
  // SIGTERM, and its end.
  ProcessExit Stop();
  // What it has written so far, the last 64 KiB.
  std::string Log() const;

 private:
  TempDir dir_;
  std::unique_ptr<ChildProcess> process_;
  std::string address_;
  std::unique_ptr<ShardStubs> stubs_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_CHAOS_STORE_SERVER_H_
