#include "client/admin_servers.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/file_util.h"
#include "client/local_shards.h"
#include "client/run_shards.h"

namespace myriad {
namespace {

// After an unclean stop a server looks at all of its rows first.
constexpr absl::Duration kStartTimeout = absl::Hours(1);

// How many shards have a folder in `store`: 0 .. K-1.
absl::StatusOr<int> CountShards(const std::string& store) {
  std::error_code error;
  std::vector<int> found;
  for (std::filesystem::directory_iterator it(store, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    absl::string_view number = name;
    int shard;
    if (absl::ConsumePrefix(&number, "shard-") && absl::SimpleAtoi(number, &shard)) found.push_back(shard);
  }
  if (error) return ErrnoStatus(error.value(), store);
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat(store, ": no shard-0 in it; --store is the folder of local.store, RUN/store by default"));
  }
  std::sort(found.begin(), found.end());
  for (size_t k = 0; k < found.size(); ++k) {
    if (found[k] != static_cast<int>(k))
      return absl::NotFoundError(absl::StrCat(JoinPath(store, absl::StrCat("shard-", k)), ": is missing"));
  }
  return static_cast<int>(found.size());
}

}  // namespace

absl::Status OnServers(const AdminServers& servers, const std::function<absl::Status(const std::vector<std::string>& addresses)>& work) {
  if ((servers.shards.empty() ? 0 : 1) + (servers.run_dir.empty() ? 0 : 1) + (servers.store.empty() ? 0 : 1) != 1) {
    return absl::InvalidArgumentError("say which servers: --shards host:port,..., --run DIR of a run that goes on, or --store DIR");
  }
  if (!servers.shards.empty()) return work(servers.shards);
  if (!servers.run_dir.empty()) {
    const absl::StatusOr<std::vector<std::string>> live = RunShards::Find(servers.run_dir);
    if (!live.ok()) return live.status();
    if (!live->empty()) return work(*live);
    return absl::FailedPreconditionError(absl::StrCat(servers.run_dir, ": no run goes on there, so it has no servers; --store ",
                                                      JoinPath(servers.run_dir, "store"),
                                                      " (or what local.store names) starts some over the rows that it left"));
  }
  const absl::StatusOr<int> count = CountShards(servers.store);
  if (!count.ok()) return count.status();
  LocalShards::Options options;
  options.server_binary = servers.server_binary;
  options.count = *count;
  options.store = servers.store;
  options.memory = servers.memory;
  options.start_timeout = kStartTimeout;
  options.should_stop = servers.should_stop;
  const absl::StatusOr<std::unique_ptr<LocalShards>> started = LocalShards::Start(options);
  if (!started.ok()) return started.status();
  const absl::Status done = work((*started)->addresses());
  const absl::Status stopped = (*started)->Stop();
  return done.ok() ? stopped : done;
}

}  // namespace myriad
