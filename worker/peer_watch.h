#ifndef MYRIAD_WORKER_PEER_WATCH_H_
#define MYRIAD_WORKER_PEER_WATCH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace myriad {

// A peer of the run was lost: UNAVAILABLE, told apart from other errors by a payload. The process ends with exit code 3.
absl::Status PeerLostError(const std::string& message);
bool IsPeerLost(const absl::Status& status);

// What a HeadClient says. A shard that is lost with its rows (DATA_LOSS) is a lost peer too; code and message stay, as does all else.
absl::Status PeerLostIfShardIs(absl::Status status);

// What the ranks of a run write for each other to read.
class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;
  virtual absl::Status Set(const std::string& key, const std::string& value) = 0;
  // Errors: NOT_FOUND if nobody has set the key; others as the store's.
  virtual absl::StatusOr<std::string> Get(const std::string& key) = 0;
};

// Tells whether the peers of a run are alive, also while none of them is in a collective (one verifies, the others wait; a rank waits for
// a shard's answer). Each rank renews a key of its own and looks at the next rank's, and all look at one key where a loss or a failure is
// told, so a round costs the same for any number of ranks.
// Thread-compatible; the caller runs Round() about once a second.
class PeerWatch {
 public:
  struct Options {
    int rank = 0;
    int rank_count = 1;
    absl::Duration patience = absl::Seconds(30);  // A peer that has renewed nothing for so long is lost.
  };

  // `store` is borrowed.
  PeerWatch(const Options& options, KeyValueStore* store) : options_(options), store_(store) {}

  // One round at `now`. Errors: a PeerLostError naming the rank, or telling what another rank reported, or that the store (rank 0) does
  // not answer.
  absl::Status Round(absl::Time now);

  // Tells all ranks that this one ends with `status`. The first report stays.
  static absl::Status Report(int rank, const absl::Status& status, KeyValueStore* store);

 private:
  const Options options_;
  KeyValueStore* const store_;
  int64_t beats_ = 0;
  std::string last_beat_;  // Of the next rank; empty until the first is seen.
  absl::Time last_change_ = absl::InfinitePast();
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_PEER_WATCH_H_
