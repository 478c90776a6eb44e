#include "server/runtime/timer.h"

#include <utility>

namespace myriad {

ThreadTimer::ThreadTimer() : thread_([this] { Loop(); }) {}

void ThreadTimer::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
  std::map<std::pair<absl::Time, Id>, std::function<void()>> forgotten;  // Declared first: destroyed after the lock is given back.
  absl::MutexLock lock(&mu_);
  forgotten.swap(tasks_);
  times_.clear();
}

Timer::Id ThreadTimer::RunAt(absl::Time when, std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  const Id id = next_id_++;
  if (stopping_) return id;
  tasks_.emplace(std::make_pair(when, id), std::move(task));
  times_.emplace(id, when);
  if (tasks_.begin()->first.second == id) changed_.Signal();
  return id;
}

void ThreadTimer::Cancel(Id id) {
  std::function<void()> task;  // Declared first: it is destroyed after the lock is given back.
  absl::MutexLock lock(&mu_);
  const auto time = times_.find(id);
  if (time == times_.end()) return;
  const auto found = tasks_.find({time->second, id});
  task = std::move(found->second);
  tasks_.erase(found);
  times_.erase(time);
}

void ThreadTimer::Loop() {
  mu_.Lock();
  while (!stopping_) {
    if (tasks_.empty()) {
      changed_.Wait(&mu_);
      continue;
    }
    const auto first = tasks_.begin();
    if (first->first.first > absl::Now()) {
      changed_.WaitWithDeadline(&mu_, first->first.first);
      continue;
    }
    std::function<void()> task = std::move(first->second);
    times_.erase(first->first.second);
    tasks_.erase(first);
    mu_.Unlock();
    task();
    task = nullptr;
    mu_.Lock();
  }
  mu_.Unlock();
}

}  // namespace myriad
