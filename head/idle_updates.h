#ifndef MYRIAD_HEAD_IDLE_UPDATES_H_
#define MYRIAD_HEAD_IDLE_UPDATES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "head/row_kernels.h"

namespace myriad {

// What the steps of SGD do to rows that are not among a step's rows: their gradient is 0, but momentum and decay go on (design section 6,
// "Idle rows"). With v = mu v + a w, w = w - r (v + b w) one step is the same linear map of (w, v) for every number of every row,
//     M = [ 1 - r (a + b)   -r mu ]        det M = mu (1 - r b)
//         [ a                  mu ]
// and a row idle for steps s + 1 .. t - 1 stands where their product takes it. Products of ranges are put together from products of
// aligned blocks of 2^l steps, each multiplied once: O(log) a row, nothing is ever divided out (the product over the head's life may be
// as good as 0), and a range has the same bits whenever and wherever it is asked for.
//
// Settling. Let (1, k) be moved by the same maps, k = 0 at first: k' = (mu k + a) / f, f = 1 - r b - r (mu k + a). Then
//     v_T - k_T w_T = (v_s - k_s w_s) prod det M / prod f   over s + 1 .. T.
// Once its bound prod mu / prod f is at most 2^-24, v is k_T w to float32's rounding and need not be stored: at mu = 0.9 and little decay
// (f near 1) after 158 steps, one more or less. A row settles in the first such step T: it is caught up, rounded as step T rounds, and from
// then on w alone says where it stands. That is part of the row's value, whether or not a store has got round to writing it so. A virtual
// row (v = 0, k = 0) has been settled since before the first step. Where a step takes more than 15/16 of a row (or flings it past 0), k
// starts again from 0, and no row settles across it.
//
// What must be remembered. A row says as of which step its numbers are. It may have been written, settled or not, right after the first of
// the steps and never read since, so all steps since then must be known: no older ones can be dropped without rewriting all rows
// that are older still. It is 40 bytes a step (the constants, k, where rows settle, 4 bytes of products), 40 MB in a million steps, of
// which only the constants need to be saved: the rest follows from them bit for bit. Steps before the first one and steps that were left
// out (a run that lets idle rows be) are identities.
//
// Not thread-safe; const calls may run together.
class IdleUpdates {
 public:
  static constexpr int64_t kNotYet = -1;

  // Step `step` was committed, and idle rows move by `constants`. Requires: step > the last one; finite constants, momentum in [0, 1).
  void Append(int64_t step, const SgdStep& constants);
  // Takes the memory that Append(step) will need. May throw std::bad_alloc.
  void Reserve(int64_t step);
  // As after Append() for each of `steps`, from `first_step` on. Requires: empty().
  void Restore(int64_t first_step, absl::Span<const SgdStep> steps);

  bool empty() const { return steps_.empty(); }
  // [first_step, end_step) are known. Both 0 when empty.
  int64_t first_step() const { return first_; }
  int64_t end_step() const { return first_ + static_cast<int64_t>(steps_.size()); }
  // One for each step from first_step() on; left out ones have momentum 1 and zeros.
  absl::Span<const SgdStep> steps() const { return steps_; }

  // Steps last + 1 .. until: takes a row that stood at (w, v) after step `last` to where it stands after step `until`.
  RowMap Between(int64_t last, int64_t until) const;

  // The step T > last in which a row last updated by `last` settles; kNotYet if that lies beyond the known steps. Not decreasing in `last`.
  int64_t SettlingStep(int64_t last) const;

  // Where a row stands after step `until` that settled in step `settled`, of its weights alone: (w, v) = (ww w, vw w). For a virtual row
  // `settled` is any step before first_step(). Requires: settled < first_step() or a step that SettlingStep() gave.
  RowMap SinceSettling(int64_t settled, int64_t until) const;

 private:
  void AppendNext(const SgdStep& constants);

  int64_t first_ = 0;
  std::vector<SgdStep> steps_;
  std::vector<double> ratios_;               // k after each step.
  std::vector<double> contractions_;         // [i]: log2(prod mu / prod f) of the first i steps.
  std::vector<int32_t> settle_after_;        // [i]: how many steps after step first_ - 1 + i a row last updated in it settles.
  int64_t restart_ = 0;                      // Steps before the last start of k: what contractions_ says of them counts for nothing.
  std::vector<std::vector<RowMap>> blocks_;  // [level][i]: steps [i 2^l, (i + 1) 2^l) from first_ on; the complete ones.
};

}  // namespace myriad

#endif  // MYRIAD_HEAD_IDLE_UPDATES_H_
