#ifndef MYRIAD_WORKER_RUN_SAVER_H_
#define MYRIAD_WORKER_RUN_SAVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/head_saves.h"
#include "client/identity_catalogue.h"
#include "client/run_saves.h"
#include "myriad/storage/v1/save_manifest.pb.h"
#include "worker/network_save.h"
#include "worker/run_training.h"

namespace myriad {

// A head of the run.
struct SaverHead {
  std::string name;
  HeadSaves* saves = nullptr;                    // Borrowed.
  const IdentityCatalogue* catalogue = nullptr;  // Borrowed.
  int shard_count = 1;
  int64_t incarnation = 0;
  int64_t first_step = 0;  // Steps that the head had committed when the run had taken none.
};

// Makes the saves of a run, and drops the old ones. All of one save are of one instant: the ranks stand between two steps while rank 0
// saves the heads on their shards, then the network, then writes the manifest. One on each rank; only rank 0 uses `saves` and `heads`.
class RunSaver {
 public:
  struct Parts {
    NetworkParts network;
    RunSaves saves{""};
    std::vector<SaverHead> heads;
    int64_t image_count = 0;  // Of all data sets.
    int keep_saves = 2;       // >= 1: the newest ones that stay.
  };
  explicit RunSaver(Parts parts) : parts_(std::move(parts)) {}

  // All ranks call it after the same step. Errors: those of the shards (a lost one as a lost peer), of Collectives; on rank 0 alone, those
  // of writing. Then the save is dropped as far as that can be done, what was saved before stays whole, and the ranks may go on.
  absl::Status Save(const RunPosition& position);

  // Rank 0, before the first save: drops what a cut-off save has left here and on the shards, and saves after `step`, which the run takes
  // anew.
  absl::Status DropAfter(int64_t step);

 private:
  storage::v1::SaveManifest Plan(const RunPosition& position) const;
  absl::Status SaveHeads(const storage::v1::SaveManifest& plan);
  // Here, and on the shards what its manifest or plan tells.
  absl::Status Drop(const RunSaves::Entry& entry);
  // What saves that failed have left.
  absl::Status DropUnfinished();
  // That, and all but the newest ones.
  absl::Status DropOld();

  const Parts parts_;
};

// Puts the newest save of a run that is whole, here and on all shards, in the place of the rows that the shards have, if the run can go on
// from it with these heads and data. What newer ones lack goes to `print`. Errors: NOT_FOUND: the run has no save; DATA_LOSS: none is
// whole, with the reasons; FAILED_PRECONDITION naming both values: another number of shards, other heads, identities or images; a shard
// that cannot be reached as a lost peer; others of HeadSaves::Restore.
absl::StatusOr<storage::v1::SaveManifest> RestoreSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                                      const std::function<void(const std::string&)>& print);

// As RunPosition; the step is the manifest's.
RunPosition PositionOf(const storage::v1::SaveManifest& manifest);

}  // namespace myriad

#endif  // MYRIAD_WORKER_RUN_SAVER_H_
