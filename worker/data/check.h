#ifndef MYRIAD_WORKER_DATA_CHECK_H_
#define MYRIAD_WORKER_DATA_CHECK_H_

#include <atomic>
#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace myriad {

// `check`: reads all of a data set (dataset.json or a folder tree) and names what is wrong with it.
struct CheckOptions {
  std::string path;
  int threads = 0;                          // 0: all cores. The output does not depend on it.
  const std::atomic<bool>* stop = nullptr;  // Set: ends with CANCELLED. May be null.
  std::ostream* results = nullptr;          // Borrowed. A line per problem and a summary per split. May be null.
  std::ostream* progress = nullptr;         // Borrowed. May be null.
};

// OK if nothing is wrong. Errors: FAILED_PRECONDITION with the number of problems, all of which stand in `results` (10,000 at most a
// split); that of a data set that cannot be opened at all; CANCELLED.
absl::Status RunCheck(const CheckOptions& options);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_CHECK_H_
