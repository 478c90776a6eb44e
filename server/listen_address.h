#ifndef MYRIAD_SERVER_LISTEN_ADDRESS_H_
#define MYRIAD_SERVER_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

struct ListenAddress {
  std::string host;  // Without brackets.
  int port = 0;      // In [0, 65535].
};

// Parses host:port or [host]:port. Errors: INVALID_ARGUMENT naming `text`.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);
// host:port, with brackets where the host has colons.
std::string ToString(const ListenAddress& address);

// OK if a server could listen there now. Errors: FAILED_PRECONDITION (in use), UNAVAILABLE (anything else), with the system's reason.
absl::Status CheckCanListen(const ListenAddress& address);

}  // namespace myriad

#endif  // MYRIAD_SERVER_LISTEN_ADDRESS_H_
