#ifndef MYRIAD_SERVER_STEP_ROW_GATE_H_
#define MYRIAD_SERVER_STEP_ROW_GATE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// Who may use a head's rows for longer than one task: a step from its draw to its commit and a write alone, readers of one instant
// together. First come, first served; nobody blocks a thread. Thread-safe.
class RowGate {
 public:
  using ReaderId = int64_t;

  // Calls `granted` once the rows are the caller's alone: at once, on this thread, or later, on the thread of a release.
  void Acquire(std::function<void()> granted);
  void Release();

  // The same for a reader, who shares the rows with others. `yield` is called, on any thread, perhaps more than once and perhaps just
  // after its release, when somebody has waited too long for the rows: the reader is to end its use soon.
  void AcquireShared(std::function<void(ReaderId)> granted, std::function<void()> yield);
  void ReleaseShared(ReaderId reader);

  // Asks all that read now. Those that come later wait behind whoever waits already.
  void AskReadersToYield();

 private:
  struct Waiter {
    ReaderId reader;  // 0: wants the rows alone.
    std::function<void()> granted;
    std::function<void()> yield;
  };
  using Grants = std::deque<std::function<void()>>;
  // Lets in the waiters that may go on; they are to be told.
  void Admit(Grants* grants) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;
  bool taken_ ABSL_GUARDED_BY(mu_) = false;  // By one alone.
  ReaderId last_reader_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<ReaderId, std::function<void()>> readers_ ABSL_GUARDED_BY(mu_);  // And how each is asked to yield.
  std::deque<Waiter> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_ROW_GATE_H_
