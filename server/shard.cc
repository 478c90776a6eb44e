#include "server/shard.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "head/partitions.h"
#include "proto/wire/status.h"
#include "server/step/step_errors.h"
#include "server/store/cold_store.h"
#include "server/store/folders.h"
#include "server/store/memory_division.h"
#include "server/store/tiered_row_store.h"

namespace myriad {
namespace {

constexpr size_t kMaxHeads = 1024;

// A refusal for want of memory that a head gives, which knows its own share alone: with what all of so many heads need.
absl::Status OfAll(const absl::Status& status, size_t head_count) {
  const std::optional<int64_t> least = LeastMemoryOf(status);
  if (!least || head_count < 2) return status;
  return Annotate(status, absl::StrCat(head_count, " heads share --memory, which must be at least ",
                                       (*least * static_cast<int64_t>(head_count) >> 20) + 1, " MiB for all; of one of them"));
}

}  // namespace

int64_t Shard::ShareOfMemory(size_t head_count) const {
  return options_.memory_bytes / static_cast<int64_t>(std::max<size_t>(1, head_count));
}

absl::Status Shard::CheckRoomForHead(const std::string& head) const {
  if (heads_.count(head) > 0) return absl::OkStatus();
  if (heads_.size() >= kMaxHeads) {
    return absl::ResourceExhaustedError(absl::StrCat("this shard has ", kMaxHeads, " heads already; no room for '", head, "'"));
  }
  if (options_.memory_bytes == 0) return absl::OkStatus();
  const int64_t share = ShareOfMemory(heads_.size() + 1);
  for (const auto& [name, other] : heads_) {
    const absl::Status fits = other.head != nullptr ? other.head->CheckFitsMemory(share) : absl::OkStatus();
    if (!fits.ok()) {
      return OfAll(Annotate(fits, absl::StrCat("head '", head, "' would leave the others ", share >> 20, " MiB each, of ",
                                               options_.memory_bytes >> 20, " MiB of --memory for all")),
                   heads_.size() + 1);
    }
  }
  return absl::OkStatus();
}

void Shard::Begin(const std::string& head, absl::string_view what) {
  heads_[head] = {nullptr, absl::UnavailableError(absl::StrCat("head '", head, "' is being ", what, " here; try again"))};
}

void Shard::End(const std::string& head, HeadPtr made) {
  absl::MutexLock lock(&mu_);
  if (made != nullptr) {
    heads_[head] = {std::move(made), absl::OkStatus()};
  } else {
    heads_.erase(head);
  }
  ShareMemory();
}

size_t Shard::head_count() const {
  absl::MutexLock lock(&mu_);
  return heads_.size();
}

HeadFolder::Options Shard::FolderOptions(size_t head_count) const {
  HeadFolder::Options folder;
  folder.max_rows = options_.max_rows;
  folder.memory_bytes = ShareOfMemory(head_count);
  folder.available_memory = options_.available_memory;
  folder.log = options_.log;
  return folder;
}

absl::StatusOr<HeadFolder::Opened> Shard::OpenFolder(const std::string& path, size_t head_count) const {
  absl::StatusOr<HeadFolder::Opened> opened = CatchAll([&] { return HeadFolder::Open(path, FolderOptions(head_count)); });
  if (!opened.ok()) return OfAll(opened.status(), head_count);
  return opened;
}

void Shard::ShareMemory() const {
  if (options_.memory_bytes == 0) return;
  const int64_t share = ShareOfMemory(heads_.size());
  for (const auto& [name, entry] : heads_) {
    if (entry.head == nullptr) continue;
    entry.head->SetMemory(share, [log = options_.log, name = name, share](const absl::Status& status) {
      if (!status.ok() && log)
        log(absl::StrCat("head '", name, "' has not got its share of ", share >> 20, " MiB yet: ", status.message()));
    });
  }
}

Shard::HeadPtr Shard::Wrap(HeadFolder::Opened opened, int64_t least_incarnation) const {
  const HeadState& state = opened.folder->state();
  const HeadShard::Options options{state.head, state.shard_index, state.shard_count, least_incarnation};
  return std::make_shared<HeadShard>(options, std::move(opened.rows), std::move(opened.folder), executor_, timer_, connect_);
}

absl::StatusOr<Shard::HeadPtr> Shard::Make(const HeadSpec& head, int shard_index, int shard_count) const {
  const size_t head_count = this->head_count();
  const HeadFolder::Options folder = FolderOptions(head_count);
  absl::StatusOr<HeadPtr> made = CatchAll([&]() -> absl::StatusOr<HeadPtr> {
    if (stored_.kept()) {
      HeadState state;
      state.head = head;
      state.shard_index = shard_index;
      state.shard_count = shard_count;
      absl::StatusOr<HeadFolder::Opened> opened = HeadFolder::Create(stored_.PathOf(head.name), state, folder);
      if (!opened.ok()) return opened.status();
      return Wrap(*std::move(opened));
    }
    TieredRowStore::Options store;
    store.head = head;
    store.shard_index = shard_index;
    store.shard_count = shard_count;
    store.max_rows = folder.max_rows;
    store.memory_bytes = folder.memory_bytes;
    store.available_memory = folder.available_memory;
    auto presence =
        std::make_unique<PresenceBitmap>(Partitions(head.class_count, head.seed, head.partition_count), shard_index, shard_count);
    return std::make_shared<HeadShard>(HeadShard::Options{head, shard_index, shard_count},
                                       std::make_unique<TieredRowStore>(store, nullptr, std::move(presence)), nullptr, executor_, timer_,
                                       connect_);
  });
  if (!made.ok()) return OfAll(made.status(), head_count);
  return made;
}

absl::Status Shard::OpenStored() {
  if (!stored_.kept()) return absl::OkStatus();
  const absl::StatusOr<std::vector<std::string>> paths = stored_.Recover();
  if (!paths.ok()) return Annotate(paths.status(), "--store");
  absl::MutexLock lock(&mu_);
  for (const std::string& path : *paths) {
    absl::StatusOr<HeadFolder::Opened> opened = OpenFolder(path, paths->size());
    if (absl::IsNotFound(opened.status())) {
      if (options_.log) options_.log(absl::StrCat(path, ": a server was stopped while it made this head; it is removed"));
      RemoveAll(path).IgnoreError();
      continue;
    }
    if (absl::IsDataLoss(opened.status())) {
      const std::string name = std::filesystem::path(path).filename().string();
      const absl::Status why = absl::DataLossError(absl::StrCat("head '", name, "' cannot be used: ", opened.status().message(),
                                                                "; go back to a save with --resume, or remove ", path));
      if (options_.log) options_.log(std::string(why.message()));
      heads_[name] = {nullptr, why};
      continue;
    }
    if (!opened.ok()) return opened.status();
    HeadPtr head = Wrap(*std::move(opened));
    const std::string name = head->spec().name;
    if (stored_.PathOf(name) != path) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": holds head '", name, "'; it must lie in ", stored_.PathOf(name)));
    }
    heads_[name] = {std::move(head), absl::OkStatus()};
  }
  return absl::OkStatus();
}

absl::Status Shard::CloseStored() {
  std::map<std::string, Entry> heads;
  {
    absl::MutexLock lock(&mu_);
    heads.swap(heads_);
  }
  absl::Status first;
  for (auto& [name, entry] : heads) {
    if (entry.head == nullptr) continue;
    const HeadShard::Info info = entry.head->info();
    const absl::Status status = entry.head->CloseFolder();
    if (first.ok() && !status.ok()) first = Annotate(status, absl::StrCat("head '", name, "'"));
    // The last that holds it: its files are closed.
    entry.head.reset();
    if (stored_.kept() && status.ok() && info.row_count == 0 && info.committed_steps == 0 && !info.mixed_steps) {
      RemoveAll(stored_.PathOf(name)).IgnoreError();
    }
  }
  return first;
}

void Shard::Open(const HeadSpec& head, SessionOptions session, HeadShard::OpenDone done) {
  const int shard_count = session.shard_addresses.size();
  HeadPtr found, replaced;
  const absl::Status status = [&]() -> absl::Status {
    absl::MutexLock lock(&mu_);
    const auto entry = heads_.find(head.name);
    if (entry != heads_.end()) {
      if (entry->second.head == nullptr) return entry->second.why;
      const absl::Status same = entry->second.head->CheckIs(head, session.shard_index, shard_count);
      // One with a folder of its own keeps it until the server stops.
      if (same.ok() || stored_.kept() || !entry->second.head->MayGiveWay(session.incarnation)) {
        found = entry->second.head;
        return same;
      }
      replaced = entry->second.head;
    } else if (absl::Status room = CheckRoomForHead(head.name); !room.ok()) {
      return room;
    }
    Begin(head.name, "made");
    return absl::OkStatus();
  }();
  if (!status.ok()) return done(status);
  if (found != nullptr) {
    return found->Open(std::move(session),
                       [done = std::move(done), head_count = head_count()](const absl::StatusOr<HeadShard::Info>& info) {
                         done(info.ok() ? info : OfAll(info.status(), head_count));
                       });
  }
  absl::StatusOr<HeadPtr> made = Make(head, session.shard_index, shard_count);
  absl::Status fits = made.status();
  if (fits.ok()) fits = OfAll((*made)->CheckStepFits(session), head_count());
  if (fits.ok()) fits = (*made)->CheckExpectedStep(session);
  if (!fits.ok()) {
    // The head was not taken: its folder goes, and the others have its memory again.
    if (made.ok()) {
      made->reset();
      if (stored_.kept()) RemoveAll(stored_.PathOf(head.name)).IgnoreError();
    }
    End(head.name, std::move(replaced));
    return done(fits);
  }
  found = *made;
  End(head.name, *std::move(made));
  if (replaced != nullptr) {
    replaced->Shutdown(absl::FailedPreconditionError(
        absl::StrCat("head '", head.name, "' was opened anew by another run (incarnation ", session.incarnation, "); this run must stop")));
  }
  found->Open(std::move(session), std::move(done));
}

absl::StatusOr<std::shared_ptr<HeadShard>> Shard::FindOrCreate(const HeadSpec& head, int shard_index, int shard_count) {
  {
    absl::MutexLock lock(&mu_);
    const auto found = heads_.find(head.name);
    if (found != heads_.end()) {
      if (found->second.head == nullptr) return found->second.why;
      if (absl::Status status = found->second.head->CheckIs(head, shard_index, shard_count); !status.ok()) return status;
      return found->second.head;
    }
    if (absl::Status status = CheckRoomForHead(head.name); !status.ok()) return status;
    Begin(head.name, "made");
  }
  absl::StatusOr<HeadPtr> made = Make(head, shard_index, shard_count);
  End(head.name, made.ok() ? *made : nullptr);
  return made;
}

absl::StatusOr<std::shared_ptr<HeadShard>> Shard::Find(const std::string& head) const {
  absl::MutexLock lock(&mu_);
  const auto found = heads_.find(head);
  if (found == heads_.end()) {
    return absl::DataLossError(absl::StrCat("this shard has not opened head '", head.substr(0, 64), "': it restarted, or never did"));
  }
  if (found->second.head == nullptr) return found->second.why;
  return found->second.head;
}

std::vector<std::shared_ptr<HeadShard>> Shard::heads() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<HeadShard>> heads;
  for (const auto& [name, entry] : heads_) {
    if (entry.head != nullptr) heads.push_back(entry.head);
  }
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
  executor_->Run([this, done = std::move(done)] {
    absl::StatusOr<std::vector<ShardSaves::Entry>> entries = CatchAll([&] { return saves_.List(); });
    for (size_t i = 0; options_.log && entries.ok() && i < entries->size(); ++i) {
      const ShardSaves::Entry& entry = (*entries)[i];
      if (!entry.state.ok()) options_.log(absl::StrCat("save ", entry.save, " is of no use: ", entry.state.status().message()));
    }
    done(std::move(entries));
  });
}

absl::Status Shard::CheckMayRestore(const HeadState& saved, const std::string& save) const {
  const std::string& head = saved.head.name;
  const auto found = heads_.find(head);
  if (found == heads_.end()) return CheckRoomForHead(head);
  if (found->second.head == nullptr) return absl::IsUnavailable(found->second.why) ? found->second.why : absl::OkStatus();
  const int64_t classes = found->second.head->spec().class_count;
  if (classes <= saved.head.class_count) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("head '", head, "' has grown to ", classes, " classes; save ", save, " has ",
                                                    saved.head.class_count, ", and would take the others' rows"));
}

absl::StatusOr<int64_t> Shard::Retire(const HeadState& saved, const std::string& save) {
  absl::MutexLock lock(&mu_);
  if (absl::Status status = CheckMayRestore(saved, save); !status.ok()) return status;
  const std::string& name = saved.head.name;
  const auto found = heads_.find(name);
  if (const HeadPtr* head = found != heads_.end() ? &found->second.head : nullptr; head != nullptr && *head != nullptr) {
    const HeadShard::Info info = (*head)->info();
    if (info.steps.open_steps > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("head '", name, "' has a step under way (incarnation ", info.incarnation, "): end that run first"));
    }
    if (head->use_count() > 1) return absl::UnavailableError(absl::StrCat("head '", name, "' is still in use"));
    (*head)->Shutdown(absl::FailedPreconditionError(absl::StrCat("head '", name, "' went back to save ", save, "; this run must stop")));
    retired_[name] = {(*head)->rows(), info.incarnation};
  }
  Begin(name, absl::StrCat("put back to save ", save));
  const auto retired = retired_.find(name);
  if (retired == retired_.end()) return 0;
  if (retired->second.rows.expired()) return retired->second.incarnation;
  heads_[name].why =
      absl::DataLossError(absl::StrCat("head '", name, "' was to go back to save ", save, ", and has not: put it back again"));
  return absl::UnavailableError(absl::StrCat("head '", name, "' is still in use"));
}

absl::StatusOr<int64_t> Shard::RestoreNow(const HeadSpec& head, int shard_index, int shard_count, const std::string& save) {
  const absl::StatusOr<HeadState> saved = saves_.Find(save, head.name);
  if (!saved.ok()) return saved.status();
  if (absl::Status status = CheckSame(saved->head, "the save", head, "the call"); !status.ok()) return status;
  if (saved->shard_index != shard_index || saved->shard_count != shard_count) {
    return absl::FailedPreconditionError(absl::StrCat("save ", save, " of head '", head.name, "' is of shard ", saved->shard_index, " of ",
                                                      saved->shard_count, "; the call says shard ", shard_index, " of ", shard_count));
  }
  {
    absl::MutexLock lock(&mu_);
    if (absl::Status status = CheckMayRestore(*saved, save); !status.ok()) return status;
    if (!restoring_.insert(head.name).second) {
      return absl::UnavailableError(absl::StrCat("head '", head.name, "' is being put back already"));
    }
  }
  const absl::Cleanup over = [&] {
    absl::MutexLock lock(&mu_);
    restoring_.erase(head.name);
  };
  return RestoreAlone(*saved, save);
}

// No other call puts back the same head meanwhile.
absl::StatusOr<int64_t> Shard::RestoreAlone(const HeadState& saved, const std::string& save) {
  const std::string& name = saved.head.name;
  // Opened once apart from the head, so that a damaged save costs nothing.
  const std::string copy = stored_.PathOfNext(name);
  const absl::Cleanup remove = [&] { RemoveAll(copy).IgnoreError(); };
  if (absl::Status status = saves_.CopyRows(save, name, copy); !status.ok()) return status;
  ColdStore::Options copied;
  copied.folder = copy;
  copied.must_exist = true;
  if (absl::Status status = ColdStore::Open(copied).status(); !status.ok()) return status;
  const absl::StatusOr<int64_t> incarnation = Retire(saved, save);
  if (!incarnation.ok()) return incarnation.status();
  const absl::Status placed = stored_.PutInPlace(name);
  absl::StatusOr<HeadFolder::Opened> opened =
      placed.ok() ? OpenFolder(stored_.PathOf(name), head_count()) : absl::StatusOr<HeadFolder::Opened>(placed);
  if (!opened.ok()) {
    absl::MutexLock lock(&mu_);
    heads_[name].why = absl::DataLossError(absl::StrCat("head '", name, "' was not put back to save ", save, ": ",
                                                        opened.status().message(), "; once that is mended, put it back again"));
    return opened.status();
  }
  const int64_t committed_steps = opened->folder->state().committed_steps;
  HeadPtr head = Wrap(*std::move(opened), *incarnation);
  {
    absl::MutexLock lock(&mu_);
    retired_.erase(name);
  }
  End(name, std::move(head));
  return committed_steps;
}

void Shard::Shutdown(const absl::Status& reason) {
  for (const std::shared_ptr<HeadShard>& head : heads()) head->Shutdown(reason);
}

}  // namespace myriad
