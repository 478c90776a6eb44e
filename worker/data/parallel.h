#ifndef MYRIAD_WORKER_DATA_PARALLEL_H_
#define MYRIAD_WORKER_DATA_PARALLEL_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace myriad {

// Runs work(i, thread) for every i of [0, count) on `threads` threads (numbered from 0; the caller's is one of them) and waits for all. An
// index is taken by the thread that is free first. After an error no further index is started; returns the error of the lowest
// index that failed. Requires: threads >= 1.
absl::Status ParallelFor(int64_t count, int threads, const std::function<absl::Status(int64_t, int)>& work);

// Cores of this machine, at least 1.
int CoreCount();

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_PARALLEL_H_
