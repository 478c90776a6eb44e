#ifndef MYRIAD_SERVER_STORE_SHARD_SAVES_H_
#define MYRIAD_SERVER_STORE_SHARD_SAVES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/head_state.h"

namespace myriad {

// The saves that a server keeps: SAVE/HEAD/rows is a copy of the head's folder, SAVE/HEAD/state the head's state, written last: without it
// the save was cut off. Calls for one save and head come one at a time; else thread-safe.
class ShardSaves {
 public:
  struct Entry {
    std::string save;
    std::string head;
    absl::StatusOr<HeadState> state;  // DATA_LOSS as Find(), naming the file: the save is of no use.
  };

  // `folder` is STORE/saves; it need not exist. Empty: no saves are kept, and every call is FAILED_PRECONDITION.
  explicit ShardSaves(std::string folder) : folder_(std::move(folder)) {}

  // OK if saves are kept.
  absl::Status CheckKept() const;

  // Makes the save of a head: `copy` puts the rows into a folder that is not there yet. Does nothing where the same save (step and
  // incarnation) is complete; what a save that was cut off has left is replaced. Errors: INVALID_ARGUMENT (a name that no folder may
  // have); FAILED_PRECONDITION naming both: another save of the head under that name; those of `copy` and of the system.
  absl::Status Make(const std::string& save, const HeadState& state,
                    const std::function<absl::Status(const std::string& folder)>& copy) const;

  // The state of a complete save, without presence. Errors: INVALID_ARGUMENT as Make; NOT_FOUND; DATA_LOSS (it cannot be read).
  absl::StatusOr<HeadState> Find(const std::string& save, const std::string& head) const;
  // Copies the rows of a complete save into `folder`, which is replaced: hard links of files that never change, else copies.
  absl::Status CopyRows(const std::string& save, const std::string& head, const std::string& folder) const;

  // Removes a head's save, its state first; OK if there is none.
  absl::Status Drop(const std::string& save, const std::string& head) const;

  // The complete ones, in the order of saves and heads. Errors: those of the system.
  absl::StatusOr<std::vector<Entry>> List() const;

 private:
  absl::StatusOr<std::string> PathOf(const std::string& save, const std::string& head) const;

  const std::string folder_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_SHARD_SAVES_H_
