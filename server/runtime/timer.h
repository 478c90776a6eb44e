#ifndef MYRIAD_SERVER_RUNTIME_TIMER_H_
#define MYRIAD_SERVER_RUNTIME_TIMER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {

// The clock, and tasks that run later. Thread-safe.
class Timer {
 public:
  using Id = int64_t;

  virtual ~Timer() = default;
  virtual absl::Time Now() const = 0;
  // Runs `task` once, not before `when`, on a thread of the timer. Tasks are short and do not block.
  virtual Id RunAt(absl::Time when, std::function<void()> task) = 0;
  // Forgets a task that has not started. One that is running may still be running when this returns.
  virtual void Cancel(Id id) = 0;
};

// The machine's clock and one thread.
class ThreadTimer : public Timer {
 public:
  ThreadTimer();
  ~ThreadTimer() override { Stop(); }

  // Forgets what is left and waits for a task that is running. Later tasks are forgotten at once.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  absl::Time Now() const override { return absl::Now(); }
  Id RunAt(absl::Time when, std::function<void()> task) override;
  void Cancel(Id id) override;

 private:
  void Loop();

  absl::Mutex mu_;
  absl::CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  Id next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<std::pair<absl::Time, Id>, std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  std::map<Id, absl::Time> times_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_RUNTIME_TIMER_H_
