#ifndef MYRIAD_TESTS_TESTING_SERVER_SHARD_CLUSTER_H_
#define MYRIAD_TESTS_TESTING_SERVER_SHARD_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "server/myriad_server.h"

namespace myriad {

// K shards as real gRPC servers in this process, on loopback ports that the system chooses. Aborts the test process if one cannot start.
// Thread-compatible.
class ShardCluster {
 public:
  // `options.listen` is not used.
  explicit ShardCluster(int shard_count, const MyriadServer::Options& options = Defaults());
  // The same, each shard with options of its own.
  explicit ShardCluster(const std::vector<MyriadServer::Options>& options);
  // Stops all.
  ~ShardCluster() = default;

  static MyriadServer::Options Defaults();

  // host:port of all shards, in order.
  const std::vector<std::string>& addresses() const { return addresses_; }

  // Stops a shard: its rows are gone, calls to it are UNAVAILABLE. A stopped one stays so until Restart().
  void Stop(int shard);
  // A new, empty shard at the same address, as a process that was restarted.
  void Restart(int shard);

 private:
  void Start(int shard, const std::string& listen);

  const std::vector<MyriadServer::Options> options_;
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<MyriadServer>> servers_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_SHARD_CLUSTER_H_
