#ifndef MYRIAD_CLIENT_HEAD_SAVES_H_
#define MYRIAD_CLIENT_HEAD_SAVES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "head/head_spec.h"

namespace myriad {

// The saves that the shards of a head keep of it, on all of them together. What each call does and refuses: shard_admin.proto; an error
// starts with "shard K (address)". A repeat is harmless. A shard that cannot be reached is DATA_LOSS. Thread-compatible.
class HeadSaves {
 public:
  virtual ~HeadSaves() = default;

  // OK if all shards can keep saves; FAILED_PRECONDITION naming one that cannot.
  virtual absl::Status CheckPossible() = 0;
  // The head after `step` committed steps, as `save`.
  virtual absl::Status Save(int64_t incarnation, int64_t step, const std::string& save) = 0;
  // Before the head is opened. Returns its committed steps, equal on all shards (else DATA_LOSS naming two). Here DATA_LOSS is of the save;
  // a shard that cannot be reached is UNAVAILABLE.
  virtual absl::StatusOr<int64_t> Restore(const std::string& save) = 0;
  virtual absl::Status Drop(const std::string& save) = 0;
};

// `addresses`: host:port of all K shards in order. `patience`: how long a shard may be unreachable.
std::unique_ptr<HeadSaves> MakeHeadSaves(const HeadSpec& head, const std::vector<std::string>& addresses, absl::Duration patience);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_HEAD_SAVES_H_
