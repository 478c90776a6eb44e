#ifndef MYRIAD_TESTS_TESTING_SERVER_FAKE_EXECUTOR_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAKE_EXECUTOR_H_

#include <deque>
#include <functional>
#include <random>
#include <utility>

#include "server/runtime/executor.h"

namespace myriad {

// Runs tasks when told to, on the caller's thread. Thread-compatible.
class FakeExecutor : public Executor {
 public:
  void Run(std::function<void()> task) override { tasks_.push_back(std::move(task)); }

  // Runs tasks, and those that they add, in order, until there is none.
  void RunAll() {
    while (!tasks_.empty()) RunOne(0);
  }
  // Runs one of the waiting tasks, any; false if there is none.
  bool RunAny(std::mt19937& rng) {
    if (tasks_.empty()) return false;
    RunOne(rng() % tasks_.size());
    return true;
  }

 private:
  void RunOne(size_t index) {
    const std::function<void()> task = std::move(tasks_[index]);
    tasks_.erase(tasks_.begin() + index);
    task();
  }
  std::deque<std::function<void()>> tasks_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAKE_EXECUTOR_H_
