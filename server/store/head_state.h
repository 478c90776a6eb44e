#ifndef MYRIAD_SERVER_STORE_HEAD_STATE_H_
#define MYRIAD_SERVER_STORE_HEAD_STATE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "head/head_spec.h"

namespace myriad {

// What a shard's disk knows of a head beside its rows; proto/myriad/storage/v1/head_state.proto says what each means.
struct HeadState {
  HeadSpec head;
  int shard_index = 0;
  int shard_count = 1;
  int64_t incarnation = 0;
  int64_t committed_steps = 0;
  std::optional<TrainingSpec> training;
  bool clean = false;
  std::string presence;  // PresenceBitmap::Serialize(), where clean.
};

std::string SerializeHeadState(const HeadState& state);
// Errors: DATA_LOSS (no such record), FAILED_PRECONDITION (a version that this program does not know), those of ParseHeadSpec().
absl::StatusOr<HeadState> ParseHeadState(absl::string_view bytes);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_HEAD_STATE_H_
