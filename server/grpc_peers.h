#ifndef MYRIAD_SERVER_GRPC_PEERS_H_
#define MYRIAD_SERVER_GRPC_PEERS_H_

#include <memory>
#include <string>
#include <vector>

#include "server/step/peer_client.h"

namespace myriad {

// Calls to other shards over gRPC. One object a server: it knows every call in flight. Thread-safe.
class GrpcPeers {
 public:
  // `max_message_bytes`: of what is sent and received.
  explicit GrpcPeers(int max_message_bytes);
  // Close().
  ~GrpcPeers();

  // The shards of a head. Connects on first use. May be used after this object is gone; its calls then end with CANCELLED.
  std::shared_ptr<PeerClient> Connect(const std::string& head, const std::vector<std::string>& addresses);

  // Cancels the calls in flight, waits until each has called back, and refuses new ones with CANCELLED.
  void Close();

 private:
  friend class GrpcPeerClient;
  class Calls;

  const int max_message_bytes_;
  const std::shared_ptr<Calls> calls_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_GRPC_PEERS_H_
