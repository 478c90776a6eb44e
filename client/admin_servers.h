#ifndef MYRIAD_CLIENT_ADMIN_SERVERS_H_
#define MYRIAD_CLIENT_ADMIN_SERVERS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace myriad {

// Which servers an admin verb works on: exactly one of `shards`, `run_dir` and `store`.
struct AdminServers {
  std::vector<std::string> shards;    // host:port of servers that run.
  std::string run_dir;                // Those of the run that goes on in this folder.
  std::string store;                  // Servers started for the verb over STORE/shard-0, shard-1, ..., which no other server has open.
  std::string memory;                 // Of each that is started, as "2GiB"; no limit when empty.
  std::string server_binary;          // For those.
  std::function<bool()> should_stop;  // Asked while they start. Never when empty.
};

// Calls `work` with the servers' addresses. Those that were started are stopped afterwards, so that their store is whole again. Errors:
// those of `work`, else: INVALID_ARGUMENT (none or several of the three are named); FAILED_PRECONDITION (no run goes on in `run_dir`);
// NOT_FOUND naming the folder (`store` has no shard-K, or one of them is missing); those of LocalShards.
absl::Status OnServers(const AdminServers& servers, const std::function<absl::Status(const std::vector<std::string>& addresses)>& work);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ADMIN_SERVERS_H_
