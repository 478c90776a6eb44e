#ifndef MYRIAD_PROTO_WIRE_ANSWERED_H_
#define MYRIAD_PROTO_WIRE_ANSWERED_H_

#include <grpcpp/support/status.h>

namespace myriad {

// UNAVAILABLE comes from two sides: from the transport, which reaches no server, and from a handler that answers so, for example because
// its disk fails just now. Both may be tried again, but only the first says that a server is gone. ToGrpcStatus() marks the second in the
// status's details.
inline constexpr char kAnsweredDetail[] = "myriad: answered by the server";

inline bool IsAnswered(const grpc::Status& status) { return status.error_details() == kAnsweredDetail; }

}  // namespace myriad

#endif  // MYRIAD_PROTO_WIRE_ANSWERED_H_
