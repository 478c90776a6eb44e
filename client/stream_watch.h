#ifndef MYRIAD_CLIENT_STREAM_WATCH_H_
#define MYRIAD_CLIENT_STREAM_WATCH_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace myriad {

// The deadline of a stream that may take any time as long as messages come: ends it once one wait for a message has lasted `patience`.
// What the reader does between two messages does not count. Thread-safe, but for one wait at a time.
class StreamWatch {
 public:
  // `end` is called at most once, on a thread of this object, and not after its destruction.
  StreamWatch(absl::Duration patience, std::function<void()> end);
  ~StreamWatch();

  StreamWatch(const StreamWatch&) = delete;
  StreamWatch& operator=(const StreamWatch&) = delete;

  // A wait, from its construction to its destruction.
  class Wait {
   public:
    explicit Wait(StreamWatch* watch) : watch_(watch) { watch_->SetDeadline(absl::Now() + watch_->patience_); }
    ~Wait() { watch_->SetDeadline(absl::InfiniteFuture()); }

   private:
    StreamWatch* const watch_;
  };

  // The stream was ended by this object.
  bool expired() const;

 private:
  void SetDeadline(absl::Time deadline);
  void Run();

  const absl::Duration patience_;
  const std::function<void()> end_;
  mutable absl::Mutex mu_;
  absl::Time deadline_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  bool expired_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_STREAM_WATCH_H_
