#ifndef MYRIAD_SERVER_STORE_IDLE_ROWS_H_
#define MYRIAD_SERVER_STORE_IDLE_ROWS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "head/head_spec.h"
#include "head/idle_updates.h"
#include "head/row_kernels.h"
#include "server/store/row_codec.h"

namespace myriad {

// Where the rows of a head stand that no step has touched lately, under SGD with idle_update EXACT (head/idle_updates.h): records stay as
// the last step that touched their row left them, and whoever reads one moves its copy to where the row stands now. A record is either
// whole, as of the step that it names, or settled in that step: weights alone.
//
// Inert until the first such step. Calls that change it are the head's strand's; the others are thread-safe.
class IdleRows {
 public:
  explicit IdleRows(const HeadSpec& head);

  static constexpr int64_t kBeforeAnyStep = -1;

  // False: rows stand as their records say.
  bool active() const { return active_; }

  // Step `step` moves idle rows by `constants` once Commit(step) is called. Errors: RESOURCE_EXHAUSTED (memory).
  absl::Status Prepare(int64_t step, const SgdStep& constants);
  void Commit(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);
  // The prepared step does not come.
  void Abandon() { prepared_.reset(); }
  // The last step that moved idle rows.
  int64_t last_step() const { return updates_.end_step() - 1; }

  // A row as it stands now, of its record: whole as of `step`, or `settled` in it. The first value of a row has settled in kBeforeAnyStep.
  // `slots` may be nullptr unless active().
  void Decode(int64_t class_id, int64_t step, bool settled, const std::byte* record, float* weights, float* slots) const;
  // The first value of a class's row, D weights, becomes that of now, with its D momenta. Only where active().
  void CatchUpVirtual(float* weights, float* momentum) const { CatchUpSettled(kBeforeAnyStep, weights, momentum); }

  // If a row's whole record is due to be settled by now: settles it in place, sets `step` and returns true. The same at any time.
  bool Settle(int64_t class_id, int64_t* step, std::byte* record) const ABSL_LOCKS_EXCLUDED(mu_);
  // The step that a whole record names, or in which its row has settled since.
  int64_t StepOf(int64_t step) const {
    const int64_t settling = updates_.SettlingStep(step);
    return settling == IdleUpdates::kNotYet ? step : settling;
  }
  bool IsDue(int64_t step) const { return active_ && updates_.SettlingStep(step) != IdleUpdates::kNotYet; }

  // What the records need to be understood, as bytes (proto/myriad/storage/v1/idle_updates.proto). Restore() is for a new one.
  // Errors: DATA_LOSS (not such bytes).
  std::string Serialize() const;
  absl::Status Restore(absl::string_view bytes);

 private:
  // The numbers of a row as its record has them become those of now. Only where active().
  void CatchUp(int64_t class_id, int64_t step, bool settled, float* weights, float* momentum) const;
  // The same for a row that settled in `step`: its weights alone say where it stands.
  void CatchUpSettled(int64_t step, float* weights, float* momentum) const;

  const HeadSpec head_;
  const RowCodec codec_;
  std::atomic<bool> active_{false};
  std::optional<SgdStep> prepared_;
  // Changed by the strand alone, under the lock; read by the strand without it and by others with it.
  mutable absl::Mutex mu_;
  IdleUpdates updates_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_IDLE_ROWS_H_
