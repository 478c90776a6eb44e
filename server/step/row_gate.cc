#include "server/step/row_gate.h"

#include <utility>
#include <vector>

namespace myriad {

void RowGate::Admit(Grants* grants) {
  while (!waiters_.empty() && !taken_) {
    Waiter& waiter = waiters_.front();
    if (waiter.reader == 0) {
      if (!readers_.empty()) return;
      taken_ = true;
    } else {
      readers_[waiter.reader] = std::move(waiter.yield);
    }
    grants->push_back(std::move(waiter.granted));
    waiters_.pop_front();
  }
}

void RowGate::Acquire(std::function<void()> granted) {
  Grants grants;
  {
    absl::MutexLock lock(&mu_);
    waiters_.push_back({0, std::move(granted), nullptr});
    Admit(&grants);
  }
  for (const auto& grant : grants) grant();
}

void RowGate::AcquireShared(std::function<void(ReaderId)> granted, std::function<void()> yield) {
  Grants grants;
  {
    absl::MutexLock lock(&mu_);
    const ReaderId reader = ++last_reader_;
    waiters_.push_back({reader, [granted = std::move(granted), reader] { granted(reader); }, std::move(yield)});
    Admit(&grants);
  }
  for (const auto& grant : grants) grant();
}

void RowGate::Release() {
  Grants grants;
  {
    absl::MutexLock lock(&mu_);
    taken_ = false;
    Admit(&grants);
  }
  for (const auto& grant : grants) grant();
}

void RowGate::ReleaseShared(ReaderId reader) {
  Grants grants;
  {
    absl::MutexLock lock(&mu_);
    readers_.erase(reader);
    Admit(&grants);
  }
  for (const auto& grant : grants) grant();
}

void RowGate::AskReadersToYield() {
  std::vector<std::function<void()>> yields;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [reader, yield] : readers_) yields.push_back(yield);
  }
  for (const auto& yield : yields) yield();
}

}  // namespace myriad
