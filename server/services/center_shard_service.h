#ifndef MYRIAD_SERVER_SERVICES_CENTER_SHARD_SERVICE_H_
#define MYRIAD_SERVER_SERVICES_CENTER_SHARD_SERVICE_H_

#include "myriad/v1/center_shard.grpc.pb.h"
#include "server/shard.h"

namespace myriad {

// The data plane: parses, calls, translates.
class CenterShardService : public v1::CenterShard::CallbackService {
 public:
  // `shard` outlives the service.
  explicit CenterShardService(Shard* shard) : shard_(shard) {}

  grpc::ServerUnaryReactor* OpenHead(grpc::CallbackServerContext* context, const v1::OpenHeadRequest* request,
                                     v1::OpenHeadResponse* response) override;
  grpc::ServerUnaryReactor* ListHeads(grpc::CallbackServerContext* context, const v1::ListHeadsRequest* request,
                                      v1::ListHeadsResponse* response) override;
  grpc::ServerUnaryReactor* HeadStep(grpc::CallbackServerContext* context, const v1::HeadStepRequest* request,
                                     v1::HeadStepResponse* response) override;
  grpc::ServerUnaryReactor* FetchStep(grpc::CallbackServerContext* context, const v1::FetchStepRequest* request,
                                      v1::FetchStepResponse* response) override;
  grpc::ServerUnaryReactor* MergeDenominators(grpc::CallbackServerContext* context, const v1::MergeDenominatorsRequest* request,
                                              v1::MergeDenominatorsResponse* response) override;
  grpc::ServerUnaryReactor* ApplyGradients(grpc::CallbackServerContext* context, const v1::ApplyGradientsRequest* request,
                                           v1::ApplyGradientsResponse* response) override;
  grpc::ServerWriteReactor<v1::FetchCentersResponse>* FetchCenters(grpc::CallbackServerContext* context,
                                                                   const v1::FetchCentersRequest* request) override;

 private:
  Shard* const shard_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_CENTER_SHARD_SERVICE_H_
