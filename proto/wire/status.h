#ifndef MYRIAD_PROTO_WIRE_STATUS_H_
#define MYRIAD_PROTO_WIRE_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace myriad {

// absl::Status <-> grpc::Status: the same code and message. The codes' numbers are equal by design.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

// An ABORTED step carries how to go on as a payload that crosses RPC in the status details.
struct StepAbort {
  int32_t next_attempt = 0;
  std::vector<int32_t> missing_ranks;
};
absl::Status StepAbortedError(const std::string& message, const StepAbort& abort);
// True and fills `abort` if `status` is an ABORTED step.
bool GetStepAbort(const absl::Status& status, StepAbort* abort);

// `status` with "context: " before its message, payloads kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, const std::string& context);

}  // namespace myriad

#endif  // MYRIAD_PROTO_WIRE_STATUS_H_
