#include "server/step/row_gate.h"

#include <utility>

namespace myriad {

void RowGate::Admit(std::deque<Waiter>* ready) {
  while (!waiters_.empty() && (users_ == 0 || (!exclusive_ && !waiters_.front().exclusive))) {
    ++users_;
    exclusive_ = waiters_.front().exclusive;
    ready->push_back(std::move(waiters_.front()));
    waiters_.pop_front();
  }
}

void RowGate::Acquire(bool exclusive, std::function<void()> granted) {
  std::deque<Waiter> ready;
  {
    absl::MutexLock lock(&mu_);
    waiters_.push_back({exclusive, std::move(granted)});
    Admit(&ready);
  }
  for (const Waiter& waiter : ready) waiter.granted();
}

void RowGate::Release() {
  std::deque<Waiter> ready;
  {
    absl::MutexLock lock(&mu_);
    --users_;
    Admit(&ready);
  }
  for (const Waiter& waiter : ready) waiter.granted();
}

}  // namespace myriad
