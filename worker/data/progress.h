#ifndef MYRIAD_WORKER_DATA_PROGRESS_H_
#define MYRIAD_WORKER_DATA_PROGRESS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/time/time.h"

namespace myriad {

// Tells how far a long run is: "packed 12000/50000 images, 4300/s", at most every two seconds. Not thread-safe.
class Progress {
 public:
  // `out` is borrowed; null: silent.
  Progress(std::ostream* out, std::string verb, std::string unit, int64_t total);
  void Update(int64_t done);

 private:
  std::ostream* const out_;
  const std::string verb_;
  const std::string unit_;
  const int64_t total_;
  const absl::Time start_;
  absl::Time last_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_PROGRESS_H_
