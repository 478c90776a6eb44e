#ifndef MYRIAD_SERVER_SERVICES_SHARD_ADMIN_SERVICE_H_
#define MYRIAD_SERVER_SERVICES_SHARD_ADMIN_SERVICE_H_

#include <string>

#include "myriad/v1/shard_admin.grpc.pb.h"
#include "server/shard.h"

namespace myriad {

// The control plane: parses, calls, translates.
class ShardAdminService : public v1::ShardAdmin::CallbackService {
 public:
  // What GetStatistics tells of the process.
  struct ServerFacts {
    std::string version;
    int compute_threads = 1;
  };
  // `shard` outlives the service.
  ShardAdminService(const ServerFacts& facts, Shard* shard) : facts_(facts), shard_(shard) {}

  grpc::ServerUnaryReactor* CreateHead(grpc::CallbackServerContext* context, const v1::CreateHeadRequest* request,
                                       v1::CreateHeadResponse* response) override;
  grpc::ServerUnaryReactor* WriteRows(grpc::CallbackServerContext* context, const v1::WriteRowsRequest* request,
                                      v1::WriteRowsResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadRowsResponse>* ReadRows(grpc::CallbackServerContext* context,
                                                           const v1::ReadRowsRequest* request) override;
  grpc::ServerUnaryReactor* ReserveRows(grpc::CallbackServerContext* context, const v1::ReserveRowsRequest* request,
                                        v1::ReserveRowsResponse* response) override;
  grpc::ServerUnaryReactor* GetCoverage(grpc::CallbackServerContext* context, const v1::GetCoverageRequest* request,
                                        v1::GetCoverageResponse* response) override;
  grpc::ServerUnaryReactor* SaveHead(grpc::CallbackServerContext* context, const v1::SaveHeadRequest* request,
                                     v1::SaveHeadResponse* response) override;
  grpc::ServerUnaryReactor* RestoreHead(grpc::CallbackServerContext* context, const v1::RestoreHeadRequest* request,
                                        v1::RestoreHeadResponse* response) override;
  grpc::ServerUnaryReactor* DropSave(grpc::CallbackServerContext* context, const v1::DropSaveRequest* request,
                                     v1::DropSaveResponse* response) override;
  grpc::ServerUnaryReactor* ListSaves(grpc::CallbackServerContext* context, const v1::ListSavesRequest* request,
                                      v1::ListSavesResponse* response) override;
  grpc::ServerUnaryReactor* StoreVirtualRows(grpc::CallbackServerContext* context, const v1::StoreVirtualRowsRequest* request,
                                             v1::StoreVirtualRowsResponse* response) override;
  grpc::ServerUnaryReactor* GrowHead(grpc::CallbackServerContext* context, const v1::GrowHeadRequest* request,
                                     v1::GrowHeadResponse* response) override;
  grpc::ServerUnaryReactor* GetStatistics(grpc::CallbackServerContext* context, const v1::GetStatisticsRequest* request,
                                          v1::GetStatisticsResponse* response) override;

 private:
  const ServerFacts facts_;
  Shard* const shard_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_SHARD_ADMIN_SERVICE_H_
