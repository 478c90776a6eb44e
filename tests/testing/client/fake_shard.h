#ifndef MYRIAD_TESTS_TESTING_CLIENT_FAKE_SHARD_H_
#define MYRIAD_TESTS_TESTING_CLIENT_FAKE_SHARD_H_

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "myriad/v1/center_shard.grpc.pb.h"
#include "myriad/v1/shard_admin.grpc.pb.h"
#include "proto/wire/status.h"

namespace myriad::testing {

// A shard that answers what a test tells it to, over real gRPC on a loopback port. Set the handlers before the first call; they run on
// gRPC's threads. A method without a handler is UNIMPLEMENTED.
class FakeShard {
 public:
  template <typename Request, typename Response>
  using Handler = std::function<absl::Status(grpc::ServerContext*, const Request&, Response*)>;
  template <typename Request, typename Response>
  using StreamHandler = std::function<absl::Status(grpc::ServerContext*, const Request&, grpc::ServerWriter<Response>*)>;

  FakeShard() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(&centers_);
    builder.RegisterService(&admin_);
    server_ = builder.BuildAndStart();
  }
  ~FakeShard() { Stop(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  // From now on nothing listens there; calls in flight are cut.
  void Stop() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  // For handlers of a shard that never answers: returns once the client has given up.
  static absl::Status WaitForCancel(grpc::ServerContext* context) {
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    return absl::CancelledError("the client gave up");
  }

  Handler<v1::OpenHeadRequest, v1::OpenHeadResponse> open_head;
  Handler<v1::ListHeadsRequest, v1::ListHeadsResponse> list_heads;
  Handler<v1::HeadStepRequest, v1::HeadStepResponse> head_step;
  Handler<v1::FetchStepRequest, v1::FetchStepResponse> fetch_step;
  Handler<v1::MergeDenominatorsRequest, v1::MergeDenominatorsResponse> merge_denominators;
  Handler<v1::ApplyGradientsRequest, v1::ApplyGradientsResponse> apply_gradients;
  StreamHandler<v1::FetchCentersRequest, v1::FetchCentersResponse> fetch_centers;
  Handler<v1::WriteRowsRequest, v1::WriteRowsResponse> write_rows;
  StreamHandler<v1::ReadRowsRequest, v1::ReadRowsResponse> read_rows;

 private:
  template <typename H, typename Request, typename Out>
  static grpc::Status Run(const H& handler, grpc::ServerContext* context, const Request* request, Out* out) {
    if (!handler) return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "not faked");
    return ToGrpcStatus(handler(context, *request, out));
  }

  class Centers : public v1::CenterShard::Service {
   public:
    explicit Centers(FakeShard* fake) : fake_(fake) {}
    grpc::Status OpenHead(grpc::ServerContext* c, const v1::OpenHeadRequest* q, v1::OpenHeadResponse* p) override {
      return Run(fake_->open_head, c, q, p);
    }
    grpc::Status ListHeads(grpc::ServerContext* c, const v1::ListHeadsRequest* q, v1::ListHeadsResponse* p) override {
      return Run(fake_->list_heads, c, q, p);
    }
    grpc::Status HeadStep(grpc::ServerContext* c, const v1::HeadStepRequest* q, v1::HeadStepResponse* p) override {
      return Run(fake_->head_step, c, q, p);
    }
    grpc::Status FetchStep(grpc::ServerContext* c, const v1::FetchStepRequest* q, v1::FetchStepResponse* p) override {
      return Run(fake_->fetch_step, c, q, p);
    }
    grpc::Status MergeDenominators(grpc::ServerContext* c, const v1::MergeDenominatorsRequest* q,
                                   v1::MergeDenominatorsResponse* p) override {
      return Run(fake_->merge_denominators, c, q, p);
    }
    grpc::Status ApplyGradients(grpc::ServerContext* c, const v1::ApplyGradientsRequest* q, v1::ApplyGradientsResponse* p) override {
      return Run(fake_->apply_gradients, c, q, p);
    }
    grpc::Status FetchCenters(grpc::ServerContext* c, const v1::FetchCentersRequest* q,
                              grpc::ServerWriter<v1::FetchCentersResponse>* w) override {
      return Run(fake_->fetch_centers, c, q, w);
    }

   private:
    FakeShard* const fake_;
  };

  class Admin : public v1::ShardAdmin::Service {
   public:
    explicit Admin(FakeShard* fake) : fake_(fake) {}
    grpc::Status WriteRows(grpc::ServerContext* c, const v1::WriteRowsRequest* q, v1::WriteRowsResponse* p) override {
      return Run(fake_->write_rows, c, q, p);
    }
    grpc::Status ReadRows(grpc::ServerContext* c, const v1::ReadRowsRequest* q, grpc::ServerWriter<v1::ReadRowsResponse>* w) override {
      return Run(fake_->read_rows, c, q, w);
    }

   private:
    FakeShard* const fake_;
  };

  Centers centers_{this};
  Admin admin_{this};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace myriad::testing

#endif  // MYRIAD_TESTS_TESTING_CLIENT_FAKE_SHARD_H_
