#ifndef MYRIAD_WORKER_TRACE_H_
#define MYRIAD_WORKER_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace myriad {

// What ran when, for `--trace`. Thread-safe.
class Trace {
 public:
  struct Span {
    std::string name;
    int track = 0;  // Spans of a track do not overlap but nest.
    int64_t start_ns = 0;
    int64_t end_ns = 0;
    int64_t step = 0;
    int64_t bytes = 0;  // 0: says nothing.
  };
  static constexpr int kWorkerTrack = 0;
  static constexpr int kReductionTrack = 1;
  static constexpr int kHeadTrack = 2;

  // Spans past `max_spans` are dropped: a trace of the first steps is what one looks at.
  explicit Trace(size_t max_spans = 100000) : max_spans_(max_spans) {}

  // Nanoseconds of a steady clock.
  static int64_t Now();

  void Add(Span span) ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<Span> spans() const ABSL_LOCKS_EXCLUDED(mu_);

  // The Chrome trace event format (chrome://tracing, Perfetto), times from the first span on; `process` is the rank.
  // Errors: those of writing the file, naming it.
  absl::Status WriteChromeJson(int process, const std::string& path) const;

 private:
  const size_t max_spans_;
  mutable absl::Mutex mu_;
  std::vector<Span> spans_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_TRACE_H_
