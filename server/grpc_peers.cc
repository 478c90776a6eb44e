#include "server/grpc_peers.h"

#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "myriad/v1/center_shard.grpc.pb.h"
#include "myriad/v1/shard_peer.grpc.pb.h"
#include "proto/wire/status.h"
#include "server/services/vote_codec.h"

namespace myriad {

// The contexts of calls in flight.
class GrpcPeers::Calls {
 public:
  // False once closed: the call must not start.
  bool Add(grpc::ClientContext* context) {
    absl::MutexLock lock(&mu_);
    if (closed_) return false;
    contexts_.insert(context);
    return true;
  }
  void Remove(grpc::ClientContext* context) {
    absl::MutexLock lock(&mu_);
    contexts_.erase(context);
  }
  void Close() {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
    mu_.Await(absl::Condition(
        +[](std::set<grpc::ClientContext*>* contexts) { return contexts->empty(); }, &contexts_));
  }

 private:
  absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mu_);
};

class GrpcPeerClient : public PeerClient {
 public:
  GrpcPeerClient(std::string head, const std::vector<std::string>& addresses, int max_message_bytes,
                 std::shared_ptr<GrpcPeers::Calls> calls)
      : head_(std::move(head)), addresses_(addresses), calls_(std::move(calls)) {
    for (const std::string& address : addresses) {
      grpc::ChannelArguments arguments;
      arguments.SetMaxReceiveMessageSize(max_message_bytes);
      arguments.SetMaxSendMessageSize(max_message_bytes);
      arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
      // A peer that comes back within shard_wait must be found again within it.
      arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
      arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
      arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
      // A vote waits long without traffic; a peer whose machine is gone must still be noticed.
      arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 5000);
      arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
      arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
      // Heads and servers of one process do not share connections.
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
      peers_.push_back(v1::ShardPeer::NewStub(channel));
      centers_.push_back(v1::CenterShard::NewStub(channel));
    }
  }

  void Vote(int shard, const Ballot& ballot, absl::Duration timeout, OutcomeCallback done) override {
    auto call = std::make_shared<Call<v1::VoteRequest, v1::VoteResponse>>();
    call->request = ToProto(head_, ballot);
    if (!Begin(call.get(), timeout)) return done(Cancelled());
    peers_[shard]->async()->Vote(&call->context, &call->request, &call->response,
                                 [call, calls = calls_, done = std::move(done)](const grpc::Status& status) {
                                   done(status.ok() ? ParseOutcome(call->response.outcome()) : FromGrpcStatus(status));
                                   calls->Remove(&call->context);
                                 });
  }

  void GetOutcome(int shard, const VoteKey& key, int asker, absl::Duration timeout, OutcomeCallback done) override {
    auto call = std::make_shared<Call<v1::GetOutcomeRequest, v1::GetOutcomeResponse>>();
    call->request = ToProto(head_, key, asker);
    if (!Begin(call.get(), timeout)) return done(Cancelled());
    peers_[shard]->async()->GetOutcome(&call->context, &call->request, &call->response,
                                       [call, calls = calls_, done = std::move(done)](const grpc::Status& status) {
                                         done(status.ok() ? ParseOutcome(call->response.outcome()) : FromGrpcStatus(status));
                                         calls->Remove(&call->context);
                                       });
  }

  void CheckHead(int shard, int64_t incarnation, absl::Duration timeout, std::function<void(absl::Status)> done) override {
    auto call = std::make_shared<Call<v1::ListHeadsRequest, v1::ListHeadsResponse>>();
    if (!Begin(call.get(), timeout)) return done(Cancelled());
    centers_[shard]->async()->ListHeads(
        &call->context, &call->request, &call->response,
        [call, calls = calls_, head = head_, incarnation, done = std::move(done)](const grpc::Status& status) {
          absl::Status result = FromGrpcStatus(status);
          if (result.ok()) {
            result =
                absl::DataLossError(absl::StrCat("it has not opened head '", head, "' under incarnation ", incarnation, ": it restarted"));
            for (const v1::HeadInfo& info : call->response.heads()) {
              if (info.head().name() == head && info.incarnation() >= incarnation) result = absl::OkStatus();
            }
          }
          done(result);
          calls->Remove(&call->context);
        });
  }

  std::string NameOf(int shard) const override { return absl::StrCat("shard ", shard, " (", addresses_[shard], ")"); }

 private:
  // What a call needs until it calls back.
  template <typename Request, typename Response>
  struct Call {
    grpc::ClientContext context;
    Request request;
    Response response;
  };

  template <typename CallType>
  bool Begin(CallType* call, absl::Duration timeout) {
    call->context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    return calls_->Add(&call->context);
  }
  static absl::Status Cancelled() { return absl::CancelledError("this server is stopping"); }

  const std::string head_;
  const std::vector<std::string> addresses_;
  const std::shared_ptr<GrpcPeers::Calls> calls_;
  std::vector<std::unique_ptr<v1::ShardPeer::Stub>> peers_;
  std::vector<std::unique_ptr<v1::CenterShard::Stub>> centers_;
};

GrpcPeers::GrpcPeers(int max_message_bytes) : max_message_bytes_(max_message_bytes), calls_(std::make_shared<Calls>()) {}

GrpcPeers::~GrpcPeers() { Close(); }

std::shared_ptr<PeerClient> GrpcPeers::Connect(const std::string& head, const std::vector<std::string>& addresses) {
  return std::make_shared<GrpcPeerClient>(head, addresses, max_message_bytes_, calls_);
}

void GrpcPeers::Close() { calls_->Close(); }

}  // namespace myriad
