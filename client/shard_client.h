#ifndef MYRIAD_CLIENT_SHARD_CLIENT_H_
#define MYRIAD_CLIENT_SHARD_CLIENT_H_

#include <memory>
#include <string>

#include "myriad/v1/center_shard.grpc.pb.h"
#include "myriad/v1/shard_admin.grpc.pb.h"

namespace myriad {

// One shard: its place among the K, its address, a channel of its own and the stubs over it. Connects on the first call. Messages of any
// size, no proxy, reconnects within half a second; a call to a shard that answers no ping for 10 s fails with UNAVAILABLE. Thread-safe.
class ShardClient {
 public:
  // `address` is host:port.
  ShardClient(int index, const std::string& address);

  int index() const { return index_; }
  const std::string& address() const { return address_; }
  // "shard 3 (server-3:50051)", the start of every error about it.
  std::string Name() const;

  v1::CenterShard::Stub& centers() { return *centers_; }
  v1::ShardAdmin::Stub& admin() { return *admin_; }

 private:
  const int index_;
  const std::string address_;
  std::unique_ptr<v1::CenterShard::Stub> centers_;
  std::unique_ptr<v1::ShardAdmin::Stub> admin_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_SHARD_CLIENT_H_
