#ifndef MYRIAD_SERVER_STORE_HEAD_FOLDER_H_
#define MYRIAD_SERVER_STORE_HEAD_FOLDER_H_

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

// Steps that rows of one head were left at.
struct StepRange {
  int64_t oldest = 0;
  int64_t newest = 0;
};

// The folder in which a shard keeps one head: the cold store of its rows, and the head's state as a note in it. It knows whether the
// rows on disk are those of one step. A server that is killed leaves rows that lie between two steps: each is as some committed step left
// it, but not all of the same. Used on the head's strand alone, between steps.
class HeadFolder {
 public:
  struct Options {
    int64_t max_rows = 0;      // As TieredRowStore has it.
    int64_t memory_bytes = 0;  // For all that the rows take in memory, as DivideMemory() has it; 0: no limit.
    std::function<int64_t()> available_memory;
    // Told what takes long. May be empty.
    std::function<void(const std::string&)> log;
  };
  struct Opened {
    std::unique_ptr<TieredRowStore> rows;
    std::unique_ptr<HeadFolder> folder;  // Borrows the rows; goes before them.
  };

  // Makes a folder for a head without rows. `state`: spec and place. Errors: ALREADY_EXISTS, those of ColdStore::Open(), RESOURCE_EXHAUSTED
  // as DivideMemory().
  static absl::StatusOr<Opened> Create(const std::string& path, const HeadState& state, const Options& options);
  // Opens a folder that was made before. After an unclean stop it reads all records once, to find which rows exist and that none is
  // damaged. Errors: NOT_FOUND (no head there, and no trace of rows), DATA_LOSS (damaged), those of ColdStore::Open(), RESOURCE_EXHAUSTED
  // as DivideMemory().
  static absl::StatusOr<Opened> Open(const std::string& path, const Options& options);

  const std::string& path() const { return path_; }
  const HeadState& state() const { return state_; }
  // Set where the rows lie between steps, until MarkInUse().
  const std::optional<StepRange>& mixed_steps() const { return mixed_steps_; }

  // As TieredRowStore::SetMemory(), of Options::memory_bytes. Errors: also RESOURCE_EXHAUSTED as DivideMemory(): nothing changes.
  absl::Status SetMemory(int64_t memory_bytes);

  // The head has `class_count` classes from now on, no fewer than before; durable before it returns. Errors: those of
  // ColdStore::PutNote(): nothing changes.
  absl::Status Grow(int64_t class_count);

  // Rows are about to change. Durable before it returns; costs nothing where it is known already. Errors: those of ColdStore::PutNote().
  absl::Status MarkInUse();
  // A run has opened the head: MarkInUse(), and what the next start is to know of it.
  absl::Status MarkOpened(int64_t incarnation, const TrainingSpec& training, int64_t committed_steps);
  // All rows are as `committed_steps` left them: they are made durable and the folder is marked clean. Errors: FAILED_PRECONDITION (the
  // last step was decided and not applied), those of RowStore::Flush(), ColdStore::PutNote(): the folder stays marked as in use.
  absl::Status MarkClean(int64_t committed_steps);
  // MarkClean(), and a copy of the folder as it then is: hard links. In use again afterwards if it was before.
  // Errors: as MarkClean(), ColdStore::LinkTo().
  absl::Status SaveTo(const std::string& path, int64_t committed_steps);

 private:
  HeadFolder(std::string path, HeadState state, std::optional<StepRange> mixed_steps, TieredRowStore* rows);
  static absl::StatusOr<Opened> Assemble(const std::string& path, HeadState state, std::unique_ptr<ColdStore> cold, const Options& options);
  absl::Status PutState();
  static absl::StatusOr<MemoryDivision> Divide(const HeadState& state, int64_t memory_bytes);

  const std::string path_;
  HeadState state_;
  std::optional<StepRange> mixed_steps_;
  TieredRowStore* const rows_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_HEAD_FOLDER_H_
