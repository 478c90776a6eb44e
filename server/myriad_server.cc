#include "server/myriad_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>

#include <utility>

#include <ATen/Parallel.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/grpc_peers.h"
#include "server/listen_address.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/services/center_shard_service.h"
#include "server/services/shard_admin_service.h"
#include "server/services/shard_peer_service.h"
#include "server/shard.h"
#include "version.h"

namespace myriad {
namespace {

// Calls that have not ended so long after their answer was given are cut off.
constexpr absl::Duration kStopGrace = absl::Seconds(1);

class GrpcServer : public MyriadServer {
 public:
  explicit GrpcServer(const Options& options)
      : pool_(std::make_unique<ThreadPool>(options.threads, [] { at::init_num_threads(); })),
        peers_(options.max_message_mib << 20),
        shard_(ShardOptions(options), pool_.get(), &timer_,
               [this](const std::string& head, const std::vector<std::string>& addresses) { return peers_.Connect(head, addresses); }),
        center_service_(&shard_),
        peer_service_(&shard_),
        admin_service_({kVersion, at::get_num_threads()}, &shard_) {}

  ~GrpcServer() override { Stop().IgnoreError(); }

  absl::Status OpenStored() { return shard_.OpenStored(); }

  absl::Status Listen(const Options& options) {
    absl::StatusOr<ListenAddress> listen = ParseListenAddress(options.listen);
    if (!listen.ok()) return listen.status();
    if (absl::Status status = CheckCanListen(*listen); !status.ok()) return status;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(ToString(*listen), grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&center_service_);
    builder.RegisterService(&peer_service_);
    builder.RegisterService(&admin_service_);
    builder.SetMaxReceiveMessageSize(options.max_message_mib << 20);
    builder.SetMaxSendMessageSize(options.max_message_mib << 20);
    // Two servers on one port would each get a part of the calls.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    // Clients and peers ping while they wait for a step; dead ones are noticed.
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen));
    listen->port = port;
    address_ = ToString(*listen);
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  absl::Status Stop() override {
    absl::MutexLock lock(&stop_mu_);
    if (pool_ == nullptr) return absl::OkStatus();
    shard_.Shutdown(absl::UnavailableError("this server is stopping"));
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + kStopGrace));
    // Nobody calls from outside any more. Now what calls from inside: other shards' answers, deadlines, and the tasks both make.
    peers_.Close();
    timer_.Stop();
    pool_.reset();
    return shard_.CloseStored();
  }

 private:
  static Shard::Options ShardOptions(const Options& options) {
    Shard::Options shard;
    shard.max_rows = options.max_rows;
    shard.store = options.store;
    shard.memory_bytes = options.memory_bytes;
    shard.log = options.log;
    return shard;
  }

  absl::Mutex stop_mu_;
  std::unique_ptr<ThreadPool> pool_;  // Set until Stop().
  ThreadTimer timer_;
  GrpcPeers peers_;
  Shard shard_;
  CenterShardService center_service_;
  ShardPeerService peer_service_;
  ShardAdminService admin_service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MyriadServer>> MyriadServer::Start(const Options& options) {
  const auto check = [](const char* field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(field, " ", value, " is outside [", low, ", ", high, "]"));
  };
  for (const absl::Status& status :
       {check("threads", options.threads, 1, 4096), check("max-rows", options.max_rows, 0, int64_t{1} << 40),
        check("memory", options.memory_bytes, 0, int64_t{1} << 50), check("max-message-mib", options.max_message_mib, 1, 2047)}) {
    if (!status.ok()) return status;
  }
  // Once a process; a repeat changes nothing. Before any server is built.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server = std::make_unique<GrpcServer>(options);
  if (absl::Status status = server->OpenStored(); !status.ok()) return status;
  if (absl::Status status = server->Listen(options); !status.ok()) return status;
  return server;
}

}  // namespace myriad
