#ifndef MYRIAD_SERVER_STORE_HEAD_FOLDER_H_
#define MYRIAD_SERVER_STORE_HEAD_FOLDER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/cold_store.h"
#include "server/store/head_state.h"
#include "server/store/memory_division.h"
#include "server/store/tiered_row_store.h"

namespace myriad {

// Steps that rows of one head were left at; -1: as they were before the first.
struct StepRange {
  int64_t oldest = 0;
  int64_t newest = 0;
};

// The folder in which a shard keeps one head: the cold store of its rows, and the head's state as a note in it. It knows whether the
// rows on disk are those of one step. A server that is killed leaves rows that lie between two steps: each is as some committed step left
// it, but not all of the same. Rows of a folder that says "clean" do not change: the store that it makes asks it before each change
// (MarkInUse()), and no change begins before the disk says so. Used on the head's strand alone, between steps.
class HeadFolder {
 public:
  HeadFolder(const HeadFolder&) = delete;
  HeadFolder& operator=(const HeadFolder&) = delete;
  ~HeadFolder();

  struct Options {
    int64_t max_rows = 0;      // As TieredRowStore has it.
    int64_t memory_bytes = 0;  // For all that the rows take in memory, as DivideMemory() has it; 0: no limit.
    std::function<int64_t()> available_memory;
    // Told what takes long. May be empty.
    std::function<void(const std::string&)> log;
    std::function<absl::StatusOr<std::unique_ptr<ColdStore>>(const ColdStore::Options&)> open_cold = ColdStore::Open;
  };
  struct Opened {
    std::unique_ptr<TieredRowStore> rows;
    std::unique_ptr<HeadFolder> folder;  // Borrows the rows; goes before them.
  };

  // Makes a folder for a head without rows. `state`: spec and place. Errors: ALREADY_EXISTS, those of ColdStore::Open(), RESOURCE_EXHAUSTED
  // as DivideMemory(). What was begun when an error came, or an exception (memory, threads), goes again.
  static absl::StatusOr<Opened> Create(const std::string& path, const HeadState& state, const Options& options);
  // Opens a folder that was made before. After an unclean stop it reads all records once, to find which rows exist and that none is
  // damaged. Errors: NOT_FOUND (no head there, and no trace of rows), DATA_LOSS (damaged), those of ColdStore::Open(), RESOURCE_EXHAUSTED
  // as DivideMemory().
  static absl::StatusOr<Opened> Open(const std::string& path, const Options& options);

  const std::string& path() const { return path_; }
  const HeadState& state() const { return state_; }
  // Set where the rows lie between steps, or may: after any unclean stop, until MarkOpened(). Of rows that are not on the disk, and may be
  // lost, it knows no more than the steps that were committed when the folder was last marked.
  const std::optional<StepRange>& mixed_steps() const { return mixed_steps_; }

  // As Options has it, or SetMemory(). Any thread may ask.
  int64_t memory_bytes() const { return memory_bytes_; }
  // As TieredRowStore::SetMemory(), of Options::memory_bytes. Errors: also RESOURCE_EXHAUSTED as DivideMemory(): nothing changes.
  absl::Status SetMemory(int64_t memory_bytes);

  // The head has `class_count` classes from now on, no fewer than before; durable before it returns. Errors: those of
  // ColdStore::PutNote(): nothing changes here; the disk may have either number until a later mark succeeds.
  absl::Status Grow(int64_t class_count);

  // Rows are about to change. Durable before it returns; costs nothing where the disk says so for certain. Errors: those of
  // ColdStore::PutNote(): rows must not change, and the next call tries again.
  absl::Status MarkInUse();
  // A run has opened the head: MarkInUse(), and what the next start is to know of it. Errors: as MarkInUse(): the run is not taken.
  absl::Status MarkOpened(int64_t incarnation, const TrainingSpec& training, int64_t committed_steps);
  // All rows are as `committed_steps` left them: they are made durable and the folder is marked clean. Errors: FAILED_PRECONDITION (the
  // last step was decided and not applied), those of RowStore::Flush(), ColdStore::PutNote(): the folder is in use, and the disk may say
  // "clean" only until rows change again.
  absl::Status MarkClean(int64_t committed_steps);
  // MarkClean(), and a copy of the folder as it then is: hard links. Errors: as MarkClean(), ColdStore::LinkTo().
  absl::Status SaveTo(const std::string& path, int64_t committed_steps);

 private:
  HeadFolder(std::string path, int64_t memory_bytes, HeadState state, std::optional<StepRange> mixed_steps, TieredRowStore* rows);
  static absl::StatusOr<Opened> Assemble(const std::string& path, HeadState state, std::unique_ptr<ColdStore> cold, const Options& options);
  // What state_ says goes to the disk.
  absl::Status PutState();
  static absl::StatusOr<MemoryDivision> Divide(const HeadState& state, int64_t memory_bytes);

  const std::string path_;
  std::atomic<int64_t> memory_bytes_;
  HeadState state_;
  // False after an error of PutState(): the disk may have that note, the one before, or get it later by itself.
  bool note_is_sure_ = true;
  std::optional<StepRange> mixed_steps_;
  TieredRowStore* const rows_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_HEAD_FOLDER_H_
