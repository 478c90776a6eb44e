#include "server/shard.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "head/partitions.h"
#include "proto/wire/status.h"
#include "server/store/tiered_row_store.h"

namespace myriad {
namespace {

constexpr size_t kMaxHeads = 1024;

}  // namespace

absl::Status Shard::CheckRoomForHead(const std::string& head) const {
  if (heads_.size() < kMaxHeads) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("this shard has ", kMaxHeads, " heads already; no room for '", head, "'"));
}

std::string Shard::FolderOf(const std::string& head) const { return absl::StrCat(options_.store, "/heads/", head); }

HeadFolder::Options Shard::FolderOptions(size_t head_count) const {
  HeadFolder::Options folder;
  folder.max_rows = options_.max_rows;
  folder.memory_bytes = options_.memory_bytes / static_cast<int64_t>(std::max<size_t>(1, head_count));
  folder.available_memory = options_.available_memory;
  folder.log = options_.log;
  return folder;
}

Shard::HeadPtr Shard::Wrap(HeadFolder::Opened opened) const {
  const HeadState& state = opened.folder->state();
  const HeadShard::Options options{state.head, state.shard_index, state.shard_count};
  return std::make_shared<HeadShard>(options, std::move(opened.rows), std::move(opened.folder), executor_, timer_, connect_);
}

absl::StatusOr<Shard::HeadPtr> Shard::Make(const HeadSpec& head, int shard_index, int shard_count) const {
  const HeadFolder::Options folder = FolderOptions(heads_.size() + (heads_.count(head.name) == 0 ? 1 : 0));
  if (!options_.store.empty()) {
    HeadState state;
    state.head = head;
    state.shard_index = shard_index;
    state.shard_count = shard_count;
    absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Create(FolderOf(head.name), state, folder);
    if (!opened.ok()) return opened.status();
    for (const auto& [name, other] : heads_) other->SetMemory(folder.memory_bytes);
    return Wrap(*std::move(opened));
  }
  TieredRowStore::Options store;
  store.head = head;
  store.shard_index = shard_index;
  store.shard_count = shard_count;
  store.max_rows = folder.max_rows;
  store.memory_bytes = folder.memory_bytes;
  store.available_memory = folder.available_memory;
  auto presence = std::make_unique<PresenceBitmap>(Partitions(head.class_count, head.seed, head.partition_count), shard_index, shard_count);
  return std::make_shared<HeadShard>(HeadShard::Options{head, shard_index, shard_count},
                                     std::make_unique<TieredRowStore>(store, nullptr, std::move(presence)), nullptr, executor_, timer_,
                                     connect_);
}

void Shard::Unmake(HeadPtr head) const {
  if (options_.store.empty()) return;
  const std::string folder = FolderOf(head->spec().name);
  head.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  for (const auto& [name, other] : heads_) other->SetMemory(FolderOptions(heads_.size()).memory_bytes);
}

absl::Status Shard::OpenStored() {
  if (options_.store.empty()) return absl::OkStatus();
  std::error_code error;
  const std::filesystem::path heads = std::filesystem::path(options_.store) / "heads";
  std::filesystem::create_directories(heads, error);
  std::vector<std::string> paths;
  if (!error) {
    for (std::filesystem::directory_iterator entry(heads, error), end; !error && entry != end; entry.increment(error)) {
      paths.push_back(entry->path().string());
    }
  }
  if (error) return absl::UnavailableError(absl::StrCat("--store ", heads.string(), ": ", error.message()));
  std::sort(paths.begin(), paths.end());
  absl::MutexLock lock(&mu_);
  for (const std::string& path : paths) {
    absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(path, FolderOptions(paths.size()));
    if (absl::IsNotFound(opened.status())) {
      if (options_.log) options_.log(absl::StrCat(path, ": a server was stopped while it made this head; it is removed"));
      std::filesystem::remove_all(path, error);
      continue;
    }
    if (!opened.ok()) return opened.status();
    HeadPtr head = Wrap(*std::move(opened));
    const std::string name = head->spec().name;
    if (FolderOf(name) != path || !heads_.emplace(name, std::move(head)).second) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": holds head '", name, "'; it must lie in ", FolderOf(name)));
    }
  }
  return absl::OkStatus();
}

absl::Status Shard::CloseStored() {
  std::map<std::string, HeadPtr> heads;
  {
    absl::MutexLock lock(&mu_);
    heads.swap(heads_);
  }
  absl::Status first;
  for (auto& [name, head] : heads) {
    const HeadShard::Info info = head->info();
    const absl::Status status = head->CloseFolder();
    if (first.ok() && !status.ok()) first = Annotate(status, absl::StrCat("head '", name, "'"));
    // The last that holds it: its files are closed.
    head.reset();
    std::error_code ignored;
    if (!options_.store.empty() && status.ok() && info.row_count == 0 && info.committed_steps == 0) {
      std::filesystem::remove_all(FolderOf(name), ignored);
    }
  }
  return first;
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
      // One with a folder of its own keeps it until the server stops.
      if (same.ok() || !options_.store.empty() || !opened->MayGiveWay(session.incarnation)) return same;
      replaced = opened;
    } else if (absl::Status room = CheckRoomForHead(head.name); !room.ok()) {
      return room;
    }
    absl::StatusOr<HeadPtr> made = Make(head, session.shard_index, shard_count);
    if (!made.ok()) return made.status();
    opened = *std::move(made);
    if (absl::Status fits = opened->CheckStepFits(session.training); !fits.ok()) {
      Unmake(std::move(opened));
      return fits;
    }
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
  absl::StatusOr<HeadPtr> made = Make(head, shard_index, shard_count);
  if (made.ok()) heads_.emplace(head.name, *made);
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
