#include "server/shard.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/tiered_row_store.h"

namespace myriad {
namespace {

constexpr size_t kMaxHeads = 1024;

}  // namespace

absl::Status Shard::CheckRoomForHead(const std::string& head) const {
  if (heads_.size() < kMaxHeads) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("this shard has ", kMaxHeads, " heads already; no room for '", head, "'"));
}

std::shared_ptr<HeadShard> Shard::Make(const HeadSpec& head, int shard_index, int shard_count) const {
  TieredRowStore::Options store;
  store.head = head;
  store.shard_index = shard_index;
  store.shard_count = shard_count;
  store.max_rows = options_.max_rows;
  store.available_memory = options_.available_memory;
  HeadShard::Options options;
  options.head = head;
  options.shard_index = shard_index;
  options.shard_count = shard_count;
  auto presence = std::make_unique<PresenceBitmap>(Partitions(head.class_count, head.seed, head.partition_count), shard_index, shard_count);
  return std::make_shared<HeadShard>(options, std::make_unique<TieredRowStore>(store, nullptr, std::move(presence)), executor_, timer_,
                                     connect_);
}

void Shard::Open(const HeadSpec& head, SessionOptions session, HeadShard::OpenDone done) {
  const int shard_count = session.shard_addresses.size();
  std::shared_ptr<HeadShard> opened, replaced;
  const absl::Status status = [&] {
    absl::MutexLock lock(&mu_);
    const auto found = heads_.find(head.name);
    if (found != heads_.end()) {
      opened = found->second;
      const absl::Status same = opened->CheckIs(head, session.shard_index, shard_count);
      if (same.ok() || !opened->MayGiveWay(session.incarnation)) return same;
      replaced = opened;
    } else if (absl::Status room = CheckRoomForHead(head.name); !room.ok()) {
      return room;
    }
    opened = Make(head, session.shard_index, shard_count);
    if (absl::Status fits = opened->CheckStepFits(session.training); !fits.ok()) return fits;
    heads_.insert_or_assign(head.name, opened);
    return absl::OkStatus();
  }();
  if (!status.ok()) return done(status);
  if (replaced != nullptr) {
    replaced->Shutdown(absl::FailedPreconditionError(
        absl::StrCat("head '", head.name, "' was opened anew by another run (incarnation ", session.incarnation, "); this run must stop")));
  }
  opened->Open(std::move(session), std::move(done));
}

absl::StatusOr<std::shared_ptr<HeadShard>> Shard::FindOrCreate(const HeadSpec& head, int shard_index, int shard_count) {
  absl::MutexLock lock(&mu_);
  const auto found = heads_.find(head.name);
  if (found != heads_.end()) {
    if (absl::Status status = found->second->CheckIs(head, shard_index, shard_count); !status.ok()) return status;
    return found->second;
  }
  if (absl::Status status = CheckRoomForHead(head.name); !status.ok()) return status;
  auto made = Make(head, shard_index, shard_count);
  heads_.emplace(head.name, made);
  return made;
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
