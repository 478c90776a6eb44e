#include "worker/data/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace myriad {

absl::Status ParallelFor(int64_t count, int threads, const std::function<absl::Status(int64_t, int)>& work) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  absl::Mutex mu;
  absl::Status first_error;     // Guarded by mu until the threads are joined.
  int64_t error_index = count;  // Likewise.
  const auto run = [&](int thread) {
    while (!failed.load(std::memory_order_relaxed)) {
      const int64_t i = next.fetch_add(1);
      if (i >= count) return;
      absl::Status status = work(i, thread);
      if (status.ok()) continue;
      failed.store(true, std::memory_order_relaxed);
      absl::MutexLock lock(&mu);
      if (i < error_index) {
        error_index = i;
        first_error = std::move(status);
      }
    }
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < std::min<int64_t>(threads, count); ++t) others.emplace_back(run, static_cast<int>(t));
  run(0);
  for (std::thread& thread : others) thread.join();
  return first_error;
}

int CoreCount() { return std::max(1u, std::thread::hardware_concurrency()); }

}  // namespace myriad
