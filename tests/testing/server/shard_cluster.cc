#include "tests/testing/server/shard_cluster.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace myriad {

ShardCluster::ShardCluster(int shard_count, const MyriadServer::Options& options)
    : ShardCluster(std::vector<MyriadServer::Options>(shard_count, options)) {}

ShardCluster::ShardCluster(const std::vector<MyriadServer::Options>& options)
    : options_(options), addresses_(options.size()), servers_(options.size()) {
  for (size_t shard = 0; shard < options.size(); ++shard) Start(static_cast<int>(shard), "127.0.0.1:0");
}

MyriadServer::Options ShardCluster::Defaults() {
  MyriadServer::Options options;
  options.threads = 2;
  return options;
}

void ShardCluster::Start(int shard, const std::string& listen) {
  MyriadServer::Options options = options_[shard];
  options.listen = listen;
  absl::StatusOr<std::unique_ptr<MyriadServer>> server = MyriadServer::Start(options);
  if (!server.ok()) {
    fprintf(stderr, "shard %d cannot start: %s\n", shard, server.status().ToString().c_str());
    std::abort();
  }
  servers_[shard] = *std::move(server);
  addresses_[shard] = servers_[shard]->address();
}

void ShardCluster::Stop(int shard) { servers_[shard].reset(); }

void ShardCluster::Restart(int shard) {
  Stop(shard);
  Start(shard, addresses_[shard]);
}

}  // namespace myriad
