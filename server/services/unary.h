#ifndef MYRIAD_SERVER_SERVICES_UNARY_H_
#define MYRIAD_SERVER_SERVICES_UNARY_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "proto/wire/status.h"

namespace myriad {

// Answers a unary call now; the response is what it holds. The handler returns the result.
inline grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_UNARY_H_
