#ifndef MYRIAD_SERVER_STEP_ROW_GATE_H_
#define MYRIAD_SERVER_STEP_ROW_GATE_H_

#include <deque>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// Who may use a head's rows for longer than one task: a step from its draw to its commit and a write alone, readers of one instant
// together. First come, first served; nobody blocks a thread. Thread-safe.
class RowGate {
 public:
  // Calls `granted` once the rows may be used: at once, on this thread, or later, on the thread of a Release().
  void Acquire(bool exclusive, std::function<void()> granted);
  // Ends one use.
  void Release();

 private:
  struct Waiter {
    bool exclusive;
    std::function<void()> granted;
  };
  // Moves the waiters that may go on to `ready`.
  void Admit(std::deque<Waiter>* ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;
  int users_ ABSL_GUARDED_BY(mu_) = 0;
  bool exclusive_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Waiter> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_ROW_GATE_H_
