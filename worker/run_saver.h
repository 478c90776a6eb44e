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

  // All ranks call it after the same step. Errors: those of the shards (a lost one as a lost peer), of writing, of Collectives. What was
  // saved before stays whole.
  absl::Status Save(const RunPosition& position);

  // Rank 0, before the first save: drops what a cut-off save has left here and on the shards, and saves after `step`, which the run takes
  // anew.
  absl::Status DropAfter(int64_t step);

 private:
  absl::Status SaveHeads(const storage::v1::SaveManifest& plan);
  // Here, and on the shards what its manifest or plan tells.
  absl::Status Drop(const RunSaves::Entry& entry);
  absl::Status DropOld();

  const Parts parts_;
};

// The newest whole save of a run, if the run can go on from it on `shard_count` shards with these data. What newer ones lack goes to
// `print`. Errors: NOT_FOUND, DATA_LOSS as RunSaves::Newest; FAILED_PRECONDITION naming both values: another number of shards, other heads,
// identities or images.
absl::StatusOr<storage::v1::SaveManifest> FindSave(const RunSaves& saves, const std::vector<SaverHead>& heads, int64_t image_count,
                                                   const std::function<void(const std::string&)>& print);

// As RunPosition; the step is the manifest's.
RunPosition PositionOf(const storage::v1::SaveManifest& manifest);

}  // namespace myriad

#endif  // MYRIAD_WORKER_RUN_SAVER_H_
