#ifndef MYRIAD_TESTS_TESTING_SERVER_FAKE_TIMER_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAKE_TIMER_H_

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/runtime/timer.h"

namespace myriad {

// A clock that stands still until Advance(). Thread-safe.
class FakeTimer : public Timer {
 public:
  absl::Time Now() const override {
    absl::MutexLock lock(&mu_);
    return now_;
  }
  Id RunAt(absl::Time when, std::function<void()> task) override {
    absl::MutexLock lock(&mu_);
    tasks_[{when, next_}] = std::move(task);
    times_[next_] = when;
    return next_++;
  }
  void Cancel(Id id) override {
    absl::MutexLock lock(&mu_);
    const auto found = times_.find(id);
    if (found == times_.end()) return;
    tasks_.erase({found->second, id});
    times_.erase(found);
  }

  // Runs what falls due within `duration`, in order, and `after_each` after each task.
  void Advance(absl::Duration duration, const std::function<void()>& after_each) {
    const absl::Time end = Now() + duration;
    while (true) {
      std::function<void()> task;
      {
        absl::MutexLock lock(&mu_);
        if (tasks_.empty() || tasks_.begin()->first.first > end) {
          now_ = end;
          return;
        }
        now_ = std::max(now_, tasks_.begin()->first.first);
        task = std::move(tasks_.begin()->second);
        times_.erase(tasks_.begin()->first.second);
        tasks_.erase(tasks_.begin());
      }
      task();
      after_each();
    }
  }
  size_t pending() const {
    absl::MutexLock lock(&mu_);
    return tasks_.size();
  }

 private:
  mutable absl::Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch();
  Id next_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<std::pair<absl::Time, Id>, std::function<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  std::map<Id, absl::Time> times_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAKE_TIMER_H_
