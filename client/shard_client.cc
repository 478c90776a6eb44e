#include "client/shard_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_cat.h"

namespace myriad {

ShardClient::ShardClient(int index, const std::string& address) : index_(index), address_(address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A shard is a peer, not a web site: an http_proxy of the environment must not come between.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Ranks in one process (tests) and several heads do not queue behind each other on one connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC's own backoff grows to 2 minutes; a shard that comes back is to be seen well within `shard_wait`.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  // A step waits long without traffic; a shard that is stopped or whose machine is gone is noticed before its deadline.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Retries are ours: they end after `shard_wait` and know which repeat is harmless.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  const std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  centers_ = v1::CenterShard::NewStub(channel);
  admin_ = v1::ShardAdmin::NewStub(channel);
}

std::string ShardClient::Name() const { return absl::StrCat("shard ", index_, " (", address_, ")"); }

}  // namespace myriad
