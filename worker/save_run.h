#ifndef MYRIAD_WORKER_SAVE_RUN_H_
#define MYRIAD_WORKER_SAVE_RUN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "client/head_client.h"
#include "client/identity_catalogue.h"
#include "client/run_folder.h"
#include "myriad/config/v1/job.pb.h"

namespace myriad {

// What a run folder says about one head at the end of a run.
struct SavedHead {
  const config::v1::HeadConfig* config = nullptr;  // Resolved.
  const IdentityCatalogue* catalogue = nullptr;
  HeadClient* client = nullptr;
  int64_t incarnation = 0;
  int64_t committed_steps = 0;
  int shard_count = 1;
};

// Writes head/NAME: the identities, of all rows that exist what `rows` says (in the head's dtype, a file a shard, as they stream), and
// head.textproto last. Errors: those of reading the rows (a lost shard as a lost peer) and of writing the files.
absl::Status SaveHead(const SavedHead& head, config::v1::TrainingConfig::FinalRows rows, const RunFolder& folder);

}  // namespace myriad

#endif  // MYRIAD_WORKER_SAVE_RUN_H_
