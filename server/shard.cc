#include "server/shard.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/memory_row_store.h"

namespace myriad {
namespace {

constexpr size_t kMaxHeads = 1024;

}  // namespace

absl::StatusOr<std::shared_ptr<HeadShard>> Shard::FindOrCreate(const HeadSpec& head, int shard_index, int shard_count) {
  absl::MutexLock lock(&mu_);
  const auto found = heads_.find(head.name);
  if (found != heads_.end()) {
    if (absl::Status status = found->second->CheckIs(head, shard_index, shard_count); !status.ok()) return status;
    return found->second;
  }
  if (heads_.size() >= kMaxHeads) {
    return absl::ResourceExhaustedError(absl::StrCat("this shard has ", kMaxHeads, " heads already; no room for '", head.name, "'"));
  }
  MemoryRowStore::Options store;
  store.head = head;
  store.max_rows = options_.max_rows;
  HeadShard::Options options;
  options.head = head;
  options.shard_index = shard_index;
  options.shard_count = shard_count;
  auto shard = std::make_shared<HeadShard>(options, std::make_unique<MemoryRowStore>(store), executor_, timer_, connect_);
  heads_.emplace(head.name, shard);
  return shard;
}

absl::StatusOr<std::shared_ptr<HeadShard>> Shard::Find(const std::string& head) const {
  absl::MutexLock lock(&mu_);
  const auto found = heads_.find(head);
  if (found == heads_.end()) {
    return absl::DataLossError(absl::StrCat("this shard has not opened head '", head.substr(0, 64), "': it restarted, or never did"));
  }
  return found->second;
}

std::vector<std::shared_ptr<HeadShard>> Shard::heads() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<HeadShard>> heads;
  for (const auto& [name, head] : heads_) heads.push_back(head);
  return heads;
}

void Shard::Shutdown(const absl::Status& reason) {
  for (const std::shared_ptr<HeadShard>& head : heads()) head->Shutdown(reason);
}

}  // namespace myriad
