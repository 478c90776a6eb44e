#ifndef MYRIAD_SERVER_SERVICES_SHARD_PEER_SERVICE_H_
#define MYRIAD_SERVER_SERVICES_SHARD_PEER_SERVICE_H_

#include "myriad/v1/shard_peer.grpc.pb.h"
#include "server/shard.h"

namespace myriad {

// What other shards ask: parses, calls, translates.
class ShardPeerService : public v1::ShardPeer::CallbackService {
 public:
  // `shard` outlives the service.
  explicit ShardPeerService(Shard* shard) : shard_(shard) {}

  grpc::ServerUnaryReactor* Vote(grpc::CallbackServerContext* context, const v1::VoteRequest* request, v1::VoteResponse* response) override;
  grpc::ServerUnaryReactor* GetOutcome(grpc::CallbackServerContext* context, const v1::GetOutcomeRequest* request,
                                       v1::GetOutcomeResponse* response) override;

 private:
  Shard* const shard_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_SHARD_PEER_SERVICE_H_
