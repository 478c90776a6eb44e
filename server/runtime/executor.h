#ifndef MYRIAD_SERVER_RUNTIME_EXECUTOR_H_
#define MYRIAD_SERVER_RUNTIME_EXECUTOR_H_

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// Runs tasks. Tasks must not throw. Thread-safe.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void Run(std::function<void()> task) = 0;
};

// A fixed number of threads. A task goes to the thread that went idle last, so a server with one busy head computes on one thread (and the
// team of compute threads that OpenMP keeps for it).
class ThreadPool : public Executor {
 public:
  // `on_thread_start` runs first on every thread (thread-local set-up of libraries); may be empty. Requires: thread_count >= 1.
  ThreadPool(int thread_count, std::function<void()> on_thread_start);
  // Runs what is queued, then stops.
  ~ThreadPool() override;

  void Run(std::function<void()> task) override;

 private:
  struct Worker {
    absl::CondVar wake;
    std::function<void()> task;
  };
  void Loop(Worker* worker, const std::function<void()>& on_thread_start);

  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  std::vector<Worker*> idle_ ABSL_GUARDED_BY(mu_);  // The last one went idle last.
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
};

// Tasks one at a time, in order, on an executor; an idle strand occupies no thread. Destroying it waits for nothing: the tasks given so far
// still run. Thread-safe.
class Strand : public Executor {
 public:
  // `executor` outlives every task.
  explicit Strand(Executor* executor) : state_(std::make_shared<State>(executor)) {}

  void Run(std::function<void()> task) override;

 private:
  struct State {
    explicit State(Executor* executor) : executor(executor) {}
    Executor* const executor;
    absl::Mutex mu;
    bool running ABSL_GUARDED_BY(mu) = false;
    std::deque<std::function<void()>> queue ABSL_GUARDED_BY(mu);
  };
  static void Drain(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_RUNTIME_EXECUTOR_H_
