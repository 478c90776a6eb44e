#ifndef MYRIAD_SERVER_SHARD_H_
#define MYRIAD_SERVER_SHARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/head_shard.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"
#include "server/store/available_memory.h"
#include "server/store/shard_saves.h"
#include "server/store/stored_heads.h"
#include "server/training_session.h"

namespace myriad {

// The heads that one server keeps its part of. Thread-safe.
class Shard {
 public:
  struct Options {
    int64_t max_rows = 0;  // Of each head; 0: no limit.
    // Folder in which heads are kept: each has one of its own under heads/. Empty: in memory alone.
    std::string store;
    int64_t memory_bytes = 0;                     // For the rows of all heads, divided among them evenly; 0: no limit but the machine's.
    std::function<void(const std::string&)> log;  // Told what takes long. May be empty.
    // Bytes that the process can still take. Any thread calls it.
    std::function<int64_t()> available_memory = [] { return AvailableMemoryBytes(); };
  };

  // `executor` and `timer` outlive the object.
  Shard(const Options& options, Executor* executor, Timer* timer, ConnectPeers connect)
      : options_(options),
        saves_(options.store.empty() ? "" : options.store + "/saves"),
        stored_(options.store),
        executor_(executor),
        timer_(timer),
        connect_(std::move(connect)) {}

  // Opens all heads that the store has. Before any other call. One whose folder is damaged is of no use, which the log and every call on
  // it say, but keeps no other from its work. Errors: those of HeadFolder::Open() but DATA_LOSS, of the system.
  absl::Status OpenStored() ABSL_LOCKS_EXCLUDED(mu_);

  int64_t max_rows() const { return options_.max_rows; }
  Timer* timer() const { return timer_; }

  // Opens a head for a run as HeadShard::Open() does. One that is not known is made, with no row, if the run can have it; one that is known
  // under another HeadSpec or place gives way to a higher incarnation as long as it has no row. `done` may be called at once.
  // Errors: those of HeadShard::Open(); RESOURCE_EXHAUSTED (too many heads, or the others could not give it its share of the memory),
  // FAILED_PRECONDITION (rows of another HeadSpec or place are under that name); UNAVAILABLE, DATA_LOSS as Find(). A head that was refused
  // leaves nothing behind.
  void Open(const HeadSpec& head, SessionOptions session, HeadShard::OpenDone done) ABSL_LOCKS_EXCLUDED(mu_);
  // The head, made with no row if it is not known. Errors: FAILED_PRECONDITION (another HeadSpec or place under that name),
  // RESOURCE_EXHAUSTED as Open(); UNAVAILABLE, DATA_LOSS as Find().
  absl::StatusOr<std::shared_ptr<HeadShard>> FindOrCreate(const HeadSpec& head, int shard_index, int shard_count) ABSL_LOCKS_EXCLUDED(mu_);
  // DATA_LOSS: there is no such head here (this process has not opened it, or is not the one that did), or its folder is damaged.
  // UNAVAILABLE: it is being made or put back just now.
  absl::StatusOr<std::shared_ptr<HeadShard>> Find(const std::string& head) const ABSL_LOCKS_EXCLUDED(mu_);
  // As ShardAdmin says of each (shard_admin.proto). Answers come by callback, on any thread.
  void SaveHead(const std::string& head, int64_t incarnation, int64_t step, const std::string& save, HeadShard::Done done)
      ABSL_LOCKS_EXCLUDED(mu_);
  void RestoreHead(const HeadSpec& head, int shard_index, int shard_count, const std::string& save,
                   std::function<void(absl::StatusOr<int64_t> committed_steps)> done) ABSL_LOCKS_EXCLUDED(mu_);
  void DropSave(const std::string& head, const std::string& save, HeadShard::Done done);
  void ListSaves(std::function<void(absl::StatusOr<std::vector<ShardSaves::Entry>>)> done);

  // In the order of names.
  std::vector<std::shared_ptr<HeadShard>> heads() const ABSL_LOCKS_EXCLUDED(mu_);

  // The server stops: every waiting call gets `reason`.
  void Shutdown(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);
  // After Shutdown(), once no task of the executor is left: all rows on disk, and folders marked as closed. A head without rows leaves
  // nothing behind. Errors: the first of HeadShard::CloseFolder(); the other heads are closed all the same.
  absl::Status CloseStored() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using HeadPtr = std::shared_ptr<HeadShard>;
  // What there is under a name.
  struct Entry {
    HeadPtr head;
    absl::Status why;  // Without a head: it is being made or put back (UNAVAILABLE), or its folder is damaged (DATA_LOSS).
  };
  // OK if one more head may be kept, and the others can give it its share of the memory.
  absl::Status CheckRoomForHead(const std::string& head) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The name is taken until End(), which puts a head there, or nothing: meanwhile the disk is used without the lock.
  void Begin(const std::string& head, absl::string_view what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(const std::string& head, HeadPtr made) ABSL_LOCKS_EXCLUDED(mu_);
  // A head without rows, with its share of the memory.
  absl::StatusOr<HeadPtr> Make(const HeadSpec& head, int shard_index, int shard_count) const ABSL_LOCKS_EXCLUDED(mu_);
  HeadPtr Wrap(HeadFolder::Opened opened, int64_t least_incarnation = 0) const;
  absl::StatusOr<int64_t> RestoreNow(const HeadSpec& head, int shard_index, int shard_count, const std::string& save)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<int64_t> RestoreAlone(const HeadState& saved, const std::string& save) ABSL_LOCKS_EXCLUDED(mu_);
  // OK if the save may come in the place of what there is.
  absl::Status CheckMayRestore(const HeadState& saved, const std::string& save) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes a head out of use, so that another folder may come in its place; returns its incarnation. Errors: as CheckMayRestore();
  // FAILED_PRECONDITION (a step is under way), UNAVAILABLE (somebody still reads it: soon no more).
  absl::StatusOr<int64_t> Retire(const HeadState& saved, const std::string& save) ABSL_LOCKS_EXCLUDED(mu_);
  size_t head_count() const ABSL_LOCKS_EXCLUDED(mu_);
  // The memory of each head where there are so many; 0: no limit.
  int64_t ShareOfMemory(size_t head_count) const;
  HeadFolder::Options FolderOptions(size_t head_count) const;
  // HeadFolder::Open(), with what it throws as a status.
  absl::StatusOr<HeadFolder::Opened> OpenFolder(const std::string& path, size_t head_count) const;
  // All heads have their share of the memory, or are on their way to it.
  void ShareMemory() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  const ShardSaves saves_;
  StoredHeads stored_;
  Executor* const executor_;
  Timer* const timer_;
  const ConnectPeers connect_;

  mutable absl::Mutex mu_;
  std::map<std::string, Entry> heads_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> restoring_ ABSL_GUARDED_BY(mu_);  // Heads of which a save is being put back.
  struct Retired {
    std::weak_ptr<const RowStore> rows;
    int64_t incarnation = 0;
  };
  std::map<std::string, Retired> retired_ ABSL_GUARDED_BY(mu_);  // Until something is in their place.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SHARD_H_
