#ifndef MYRIAD_SERVER_STORE_IO_POOL_H_
#define MYRIAD_SERVER_STORE_IO_POOL_H_

#include <cstdint>
#include <deque>
#include <exception>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// Threads that wait for a disk: their number is the depth of its queue. They stay from call to call. Thread-safe.
class IoPool {
 public:
  // Requires: threads >= 1. Throws std::system_error if the system does not start as many.
  explicit IoPool(int threads);
  // Requires: no Run() is going on.
  ~IoPool();
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;

  // Calls work(0) .. work(parts - 1), several at a time, and returns when all have returned. Calls of Run() that overlap take turns part by
  // part, so a long one does not hold up a short one. What a part throws Run() throws then, if several do one of them.
  void Run(int64_t parts, absl::FunctionRef<void(int64_t part)> work);

 private:
  struct Job {
    absl::FunctionRef<void(int64_t part)> work;
    int64_t parts;
    int64_t next = 0;
    int64_t unfinished = 0;
    std::exception_ptr thrown = nullptr;
  };
  void Work();
  void Stop();

  absl::Mutex mu_;
  absl::CondVar has_work_;
  absl::CondVar job_done_;
  std::deque<Job*> jobs_ ABSL_GUARDED_BY(mu_);  // With parts that nobody has taken yet.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_IO_POOL_H_
