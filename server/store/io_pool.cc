#include "server/store/io_pool.h"

#include <algorithm>

#include "server/store/start_threads.h"

namespace myriad {

IoPool::IoPool(int threads) {
  StartThreads(
      threads, [this] { Work(); }, [this] { Stop(); }, &threads_);
}

IoPool::~IoPool() { Stop(); }

void IoPool::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    has_work_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void IoPool::Run(int64_t parts, absl::FunctionRef<void(int64_t part)> work) {
  if (parts <= 0) return;
  if (parts == 1) return work(0);
  Job job{work, parts, 0, parts};
  absl::MutexLock lock(&mu_);
  jobs_.push_back(&job);
  // No more threads wake than there is work for.
  for (int64_t i = 0; i < std::min<int64_t>(parts, threads_.size()); ++i) has_work_.Signal();
  while (job.unfinished > 0) job_done_.Wait(&mu_);
  if (job.thrown != nullptr) std::rethrow_exception(job.thrown);
}

void IoPool::Work() {
  absl::MutexLock lock(&mu_);
  while (true) {
    while (jobs_.empty() && !stopping_) has_work_.Wait(&mu_);
    if (jobs_.empty()) return;
    Job* const job = jobs_.front();
    jobs_.pop_front();
    const int64_t part = job->next++;
    if (job->next < job->parts) jobs_.push_back(job);
    mu_.Unlock();
    std::exception_ptr thrown;
    try {
      job->work(part);
    } catch (...) {
      thrown = std::current_exception();
    }
    mu_.Lock();
    if (thrown != nullptr) job->thrown = thrown;
    if (--job->unfinished == 0) job_done_.SignalAll();
  }
}

}  // namespace myriad
