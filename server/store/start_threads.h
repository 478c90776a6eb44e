#ifndef MYRIAD_SERVER_STORE_START_THREADS_H_
#define MYRIAD_SERVER_STORE_START_THREADS_H_

#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace myriad {

// Starts `count` threads more, each of which does `run`. Where the system refuses one, those that run must not be left behind: `stop` ends
// and joins all of `threads`, and the std::system_error goes on.
template <typename Run>
void StartThreads(int count, Run run, absl::FunctionRef<void()> stop, std::vector<std::thread>* threads) {
  threads->reserve(threads->size() + count);
  try {
    for (int i = 0; i < count; ++i) threads->emplace_back(run);
  } catch (...) {
    stop();
    throw;
  }
}

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_START_THREADS_H_
