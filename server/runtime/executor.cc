#include "server/runtime/executor.h"

#include <utility>

namespace myriad {
namespace {

constexpr int kTasksPerTurn = 16;

}  // namespace

ThreadPool::ThreadPool(int thread_count, std::function<void()> on_thread_start) {
  for (int i = 0; i < thread_count; ++i) workers_.push_back(std::make_unique<Worker>());
  for (const std::unique_ptr<Worker>& worker : workers_) {
    threads_.emplace_back([this, worker = worker.get(), on_thread_start] { Loop(worker, on_thread_start); });
  }
}

ThreadPool::~ThreadPool() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    for (Worker* worker : idle_) worker->wake.Signal();
    idle_.clear();  // They end; what is still to come goes through the queue, which whoever runs a task looks at once more.
  }
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(std::function<void()> task) {
  absl::MutexLock lock(&mu_);
  if (idle_.empty()) {
    queue_.push_back(std::move(task));
    return;
  }
  Worker* worker = idle_.back();
  idle_.pop_back();
  worker->task = std::move(task);
  worker->wake.Signal();
}

void ThreadPool::Loop(Worker* worker, const std::function<void()>& on_thread_start) {
  if (on_thread_start) on_thread_start();
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mu_);
      if (!queue_.empty()) {
        task = std::move(queue_.front());
        queue_.pop_front();
      } else {
        if (stopping_) return;
        idle_.push_back(worker);
        while (!worker->task && !stopping_) worker->wake.Wait(&mu_);
        if (!worker->task) return;
        task = std::exchange(worker->task, nullptr);
      }
    }
    task();
  }
}

void Strand::Run(std::function<void()> task) {
  {
    absl::MutexLock lock(&state_->mu);
    state_->queue.push_back(std::move(task));
    if (state_->running) return;
    state_->running = true;
  }
  state_->executor->Run([state = state_] { Drain(state); });
}

void Strand::Drain(const std::shared_ptr<State>& state) {
  // On one thread while there is more, so that a step's parts find the thread's caches and its team of compute threads again; after some
  // tasks the strand goes behind what others have queued.
  for (int turn = 0; turn < kTasksPerTurn; ++turn) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&state->mu);
      if (state->queue.empty()) {
        state->running = false;
        return;
      }
      task = std::move(state->queue.front());
      state->queue.pop_front();
    }
    task();
  }
  state->executor->Run([state] { Drain(state); });
}

}  // namespace myriad
