#include "server/listen_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace myriad {

absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  ListenAddress address;
  if (colon != std::string::npos && absl::SimpleAtoi(text.substr(colon + 1), &address.port) && address.port >= 0 && address.port <= 65535) {
    address.host = text.substr(0, colon);
    if (address.host.size() >= 2 && address.host.front() == '[' && address.host.back() == ']') {
      address.host = address.host.substr(1, address.host.size() - 2);
    }
    if (!address.host.empty()) return address;
  }
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no address to listen on: use HOST:PORT, with a port in [0, 65535]"));
}

std::string ToString(const ListenAddress& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return absl::StrCat(brackets ? "[" : "", address.host, brackets ? "]" : "", ":", address.port);
}

absl::Status CheckCanListen(const ListenAddress& address) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (error != 0) return absl::UnavailableError(absl::StrCat("cannot listen on ", ToString(address), ": ", gai_strerror(error)));
  int reason = 0;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
      listen(fd, 1) != 0) {
    reason = errno;
  }
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  if (reason == 0) return absl::OkStatus();
  const std::string message = absl::StrCat("cannot listen on ", ToString(address), ": ", std::strerror(reason));
  return reason == EADDRINUSE ? absl::FailedPreconditionError(message) : absl::UnavailableError(message);
}

}  // namespace myriad
