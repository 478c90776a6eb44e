#include "client/stream_watch.h"

#include <utility>

namespace myriad {

StreamWatch::StreamWatch(absl::Duration patience, std::function<void()> end) : patience_(patience), end_(std::move(end)) {
  thread_ = std::thread([this] { Run(); });
}

StreamWatch::~StreamWatch() {
  {
    absl::MutexLock lock(&mu_);
    done_ = true;
  }
  thread_.join();
}

bool StreamWatch::expired() const {
  absl::MutexLock lock(&mu_);
  return expired_;
}

void StreamWatch::SetDeadline(absl::Time deadline) {
  absl::MutexLock lock(&mu_);
  deadline_ = deadline;
}

void StreamWatch::Run() {
  absl::MutexLock lock(&mu_);
  while (!done_) {
    const absl::Time deadline = deadline_;
    const auto changed = [this, deadline]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return done_ || deadline_ != deadline; };
    if (mu_.AwaitWithDeadline(absl::Condition(&changed), deadline)) continue;
    expired_ = true;
    return end_();
  }
}

}  // namespace myriad
