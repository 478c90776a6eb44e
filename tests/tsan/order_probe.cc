// Two threads that share a number, for tsan_test.py: `order_probe CASE ordered` hands it over as CASE says and must not be reported;
// `order_probe CASE racy` goes through the same calls, but touches the number where they order nothing, and must be.

#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace {

constexpr absl::Duration kForever = absl::Hours(1);

struct Shared {
  absl::Mutex mutex;
  absl::CondVar changed;
  absl::Notification notification;
  bool ready = false;  // Guarded by mutex.
  int number = 0;
};

void Together(const std::function<void()>& one, const std::function<void()>& other) {
  std::thread thread(one);
  other();
  thread.join();
}

// Both threads lock, unlock and add; only what is done in between is ordered.
void Locked(bool racy, const std::function<void(absl::Mutex*)>& lock, const std::function<void(absl::Mutex*)>& unlock) {
  Shared shared;
  const auto add = [&] {
    lock(&shared.mutex);
    if (!racy) ++shared.number;
    unlock(&shared.mutex);
    if (racy) ++shared.number;
  };
  Together(add, add);
}

void Unlock(absl::Mutex* mutex) { mutex->Unlock(); }

void TryLocked(bool racy) {
  Locked(
      racy,
      [](absl::Mutex* mutex) {
        while (!mutex->TryLock()) std::this_thread::yield();
      },
      Unlock);
}

// A writer and a reader; when racy, the writer holds the lock as a reader does.
void ReaderLocked(bool racy) {
  Shared shared;
  Together(
      [&] {
        racy ? shared.mutex.ReaderLock() : shared.mutex.Lock();
        shared.number = 1;
        racy ? shared.mutex.ReaderUnlock() : shared.mutex.Unlock();
      },
      [&] {
        absl::ReaderMutexLock lock(&shared.mutex);
        std::printf("%d\n", shared.number);
      });
}

// One thread says that it is ready, the other waits for that; when racy, the number is written after it was said.
void Waited(bool racy, const std::function<void(Shared*)>& wait) {
  Shared shared;
  Together(
      [&] {
        if (!racy) shared.number = 1;
        shared.mutex.Lock();
        shared.ready = true;
        shared.changed.SignalAll();
        shared.mutex.Unlock();
        if (racy) shared.number = 1;
      },
      [&] {
        wait(&shared);
        ++shared.number;
      });
}

void AwaitReady(Shared* shared) {
  absl::MutexLock lock(&shared->mutex);
  shared->mutex.Await(absl::Condition(&shared->ready));
}
void AwaitReadyAsReader(Shared* shared) {
  absl::ReaderMutexLock lock(&shared->mutex);
  shared->mutex.AwaitWithTimeout(absl::Condition(&shared->ready), kForever);
}
void AwaitReadyUntil(Shared* shared) {
  absl::MutexLock lock(&shared->mutex);
  shared->mutex.AwaitWithDeadline(absl::Condition(&shared->ready), absl::InfiniteFuture());
}
void LockWhenReady(Shared* shared) { absl::MutexLock lock(&shared->mutex, absl::Condition(&shared->ready)); }
void LockWhenReadyWithin(Shared* shared) {
  shared->mutex.LockWhenWithTimeout(absl::Condition(&shared->ready), kForever);
  shared->mutex.Unlock();
}
void ReadWhenReady(Shared* shared) { absl::ReaderMutexLock lock(&shared->mutex, absl::Condition(&shared->ready)); }
void WaitUntilChanged(Shared* shared) {
  absl::MutexLock lock(&shared->mutex);
  while (!shared->ready) shared->changed.Wait(&shared->mutex);
}
void WaitWithinUntilChanged(Shared* shared) {
  absl::MutexLock lock(&shared->mutex);
  while (!shared->ready) shared->changed.WaitWithTimeout(&shared->mutex, kForever);
}

// The waiting thread gave the lock up in between, so what it wrote under the lock before it waited is ordered.
void WroteBeforeItWaited(bool racy) {
  Shared shared;
  Together(
      [&] {
        shared.mutex.Lock();
        if (!racy) ++shared.number;
        shared.ready = true;
        shared.mutex.Unlock();
        if (racy) ++shared.number;
      },
      [&] {
        absl::MutexLock lock(&shared.mutex);
        ++shared.number;
        shared.mutex.Await(absl::Condition(&shared.ready));
        ++shared.number;
      });
}

void Notified(bool racy, const std::function<void(absl::Notification*)>& wait) {
  Shared shared;
  Together(
      [&] {
        if (!racy) shared.number = 1;
        shared.notification.Notify();
        if (racy) shared.number = 1;
      },
      [&] {
        wait(&shared.notification);
        ++shared.number;
      });
}

void Counted(bool racy) {
  absl::BlockingCounter counter(2);
  std::array<int, 2> numbers{};
  const auto count = [&](int i) {
    if (!racy) numbers[i] = 1;
    counter.DecrementCount();
    if (racy) numbers[i] = 1;
  };
  std::thread first(count, 0);
  std::thread second(count, 1);
  counter.Wait();
  std::printf("%d\n", numbers[0] + numbers[1]);
  first.join();
  second.join();
}

// Each thread gives its copy up after reading it; the last one frees it. When racy, one assigns to what the other reads.
void SharedStatus(bool racy) {
  const auto* original = new absl::Status(absl::DataLossError("a message that is allocated, since no status of its length is inline"));
  absl::Status one = *original, other = *original;
  delete original;
  Together(
      [&] {
        std::printf("%zu\n", one.message().size());
        one = absl::OkStatus();
      },
      [&] {
        std::printf("%zu\n", (racy ? one : other).message().size());
        other = absl::OkStatus();
      });
}

// Each thread of a parallel region writes its own number, and the caller reads them; when racy, all write the same.
void Parallel(bool racy) {
  std::array<int, 4> numbers{};
  numbers.fill(1);
#pragma omp parallel for num_threads(4) schedule(static)
  for (int i = 0; i < 4; ++i) numbers[racy ? 0 : i] += i;
  std::printf("%d\n", numbers[0] + numbers[3]);
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, std::function<void(bool racy)>> cases = {
      {"Lock",
       [](bool racy) {
         Locked(
             racy, [](absl::Mutex* mutex) { mutex->Lock(); }, Unlock);
       }},
      {"TryLock", TryLocked},
      {"ReaderLock", ReaderLocked},
      {"Await", [](bool racy) { Waited(racy, AwaitReady); }},
      {"AwaitWithTimeout", [](bool racy) { Waited(racy, AwaitReadyAsReader); }},
      {"AwaitWithDeadline", [](bool racy) { Waited(racy, AwaitReadyUntil); }},
      {"AwaitAfterAWrite", WroteBeforeItWaited},
      {"LockWhen", [](bool racy) { Waited(racy, LockWhenReady); }},
      {"LockWhenWithTimeout", [](bool racy) { Waited(racy, LockWhenReadyWithin); }},
      {"ReaderLockWhen", [](bool racy) { Waited(racy, ReadWhenReady); }},
      {"CondVarWait", [](bool racy) { Waited(racy, WaitUntilChanged); }},
      {"CondVarWaitWithTimeout", [](bool racy) { Waited(racy, WaitWithinUntilChanged); }},
      {"Notification", [](bool racy) { Notified(racy, [](absl::Notification* done) { done->WaitForNotification(); }); }},
      {"NotificationWithTimeout",
       [](bool racy) { Notified(racy, [](absl::Notification* done) { done->WaitForNotificationWithTimeout(kForever); }); }},
      {"HasBeenNotified",
       [](bool racy) {
         Notified(racy, [](absl::Notification* done) {
           while (!done->HasBeenNotified()) std::this_thread::yield();
         });
       }},
      {"BlockingCounter", Counted},
      {"Status", SharedStatus},
      {"OpenMp", Parallel},
  };
  if (argc == 1) {
    for (const auto& [name, run] : cases) std::printf("%s\n", name.c_str());
    return 0;
  }
  cases.at(argv[1])(std::string(argv[2]) == "racy");
  return 0;
}
