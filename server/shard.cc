#include "server/shard.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "head/partitions.h"
#include "proto/wire/status.h"
#include "server/step/step_errors.h"
#include "server/store/cold_store.h"
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

Shard::HeadPtr Shard::Wrap(HeadFolder::Opened opened, int64_t least_incarnation) const {
  const HeadState& state = opened.folder->state();
  const HeadShard::Options options{state.head, state.shard_index, state.shard_count, least_incarnation};
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
    absl::Status fits = opened->CheckStepFits(session.training);
    if (fits.ok()) fits = opened->CheckExpectedStep(session);
    if (!fits.ok()) {
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

void Shard::SaveHead(const std::string& head, int64_t incarnation, int64_t step, const std::string& save, HeadShard::Done done) {
  const absl::StatusOr<std::shared_ptr<HeadShard>> found = Find(head);
  if (!found.ok()) return done(found.status());
  const auto make = [this, save](const HeadState& state, const std::function<absl::Status(const std::string&)>& copy) {
    return saves_.Make(save, state, copy);
  };
  (*found)->Save(incarnation, step, make, std::move(done));
}

void Shard::RestoreHead(const HeadSpec& head, int shard_index, int shard_count, const std::string& save,
                        std::function<void(absl::StatusOr<int64_t>)> done) {
  executor_->Run([this, head, shard_index, shard_count, save, done = std::move(done)] {
    done(CatchAll([&] { return RestoreNow(head, shard_index, shard_count, save); }));
  });
}

void Shard::DropSave(const std::string& head, const std::string& save, HeadShard::Done done) {
  executor_->Run([this, head, save, done = std::move(done)] { done(CatchAll([&] { return saves_.Drop(save, head); })); });
}

void Shard::ListSaves(std::function<void(absl::StatusOr<std::vector<ShardSaves::Entry>>)> done) {
  executor_->Run([this, done = std::move(done)] { done(CatchAll([&] { return saves_.List(); })); });
}

absl::StatusOr<int64_t> Shard::Retire(const std::string& head, const std::string& save) {
  const auto found = heads_.find(head);
  if (found != heads_.end()) {
    const HeadShard::Info info = found->second->info();
    if (info.steps.open_steps > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("head '", head, "' has a step under way (incarnation ", info.incarnation, "): end that run first"));
    }
    if (found->second.use_count() > 1) return absl::UnavailableError(absl::StrCat("head '", head, "' is still in use"));
    found->second->Shutdown(
        absl::FailedPreconditionError(absl::StrCat("head '", head, "' went back to save ", save, "; this run must stop")));
    retired_[head] = {found->second->rows(), info.incarnation};
    heads_.erase(found);
  }
  const auto retired = retired_.find(head);
  if (retired == retired_.end()) return 0;
  if (!retired->second.rows.expired()) return absl::UnavailableError(absl::StrCat("head '", head, "' is still in use"));
  return retired->second.incarnation;
}

absl::StatusOr<int64_t> Shard::RestoreNow(const HeadSpec& head, int shard_index, int shard_count, const std::string& save) {
  const absl::StatusOr<HeadState> saved = saves_.Find(save, head.name);
  if (!saved.ok()) return saved.status();
  if (absl::Status status = CheckSame(saved->head, "the save", head, "the call"); !status.ok()) return status;
  if (saved->shard_index != shard_index || saved->shard_count != shard_count) {
    return absl::FailedPreconditionError(absl::StrCat("save ", save, " of head '", head.name, "' is of shard ", saved->shard_index, " of ",
                                                      saved->shard_count, "; the call says shard ", shard_index, " of ", shard_count));
  }
  absl::MutexLock lock(&mu_);
  // Opened once apart from the head, so that a damaged save costs nothing.
  const std::string copy = absl::StrCat(options_.store, "/restoring");
  if (absl::Status status = saves_.CopyRows(save, head.name, copy); !status.ok()) return status;
  const HeadFolder::Options folder_options = FolderOptions(heads_.size() + (heads_.count(head.name) == 0 ? 1 : 0));
  ColdStore::Options copied;
  copied.folder = copy;
  copied.must_exist = true;
  if (absl::Status status = ColdStore::Open(copied).status(); !status.ok()) return status;
  const absl::StatusOr<int64_t> incarnation = Retire(head.name, save);
  if (!incarnation.ok()) return incarnation.status();
  const std::string folder = FolderOf(head.name);
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (!error) std::filesystem::rename(copy, folder, error);
  if (error) return absl::UnavailableError(absl::StrCat(folder, ": ", error.message()));
  absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Open(folder, folder_options);
  if (!opened.ok()) return opened.status();
  for (const auto& [name, other] : heads_) other->SetMemory(folder_options.memory_bytes);
  const int64_t committed_steps = opened->folder->state().committed_steps;
  heads_.emplace(head.name, Wrap(*std::move(opened), *incarnation));
  retired_.erase(head.name);
  return committed_steps;
}

void Shard::Shutdown(const absl::Status& reason) {
  for (const std::shared_ptr<HeadShard>& head : heads()) head->Shutdown(reason);
}

}  // namespace myriad
