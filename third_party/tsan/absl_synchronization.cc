// Tells ThreadSanitizer what Abseil's locks do. Debian's Abseil is not built for it, so a lock would order nothing, and every guarded
// access would be taken for a race.
//
// The functions below hide those of libabsl_synchronization.so, also from the libraries that call them (gRPC, and Abseil itself), and call
// them between the annotations that an instrumented Abseil has. Accesses within are not looked at: a Condition is evaluated by whichever
// thread unlocks, under the lock, but after the annotation that gives the lock away.

#include <sanitizer/tsan_interface.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "third_party/tsan/next_function.h"

namespace {

using ::myriad::NextFunction;

// Abseil's functions call each other, through here again: only the outermost speaks.
thread_local int nesting = 0;
class Nesting {
 public:
  Nesting() { ++nesting; }
  ~Nesting() { --nesting; }
  bool inner() const { return nesting > 1; }
};

// Runs `lock`, which returns with `mutex` held. `flags`: 0, or __tsan_mutex_read_lock.
template <typename Call>
auto Locking(void* mutex, unsigned flags, const Call& lock) {
  struct Annotation {
    void* mutex;
    unsigned flags;
    ~Annotation() { __tsan_mutex_post_lock(mutex, flags, 0); }
  };
  const Nesting level;
  if (level.inner()) return lock();
  __tsan_mutex_pre_lock(mutex, flags);
  const Annotation after{mutex, flags};
  return lock();
}

template <typename Call>
bool TryLocking(void* mutex, unsigned flags, const Call& lock) {
  const Nesting level;
  if (level.inner()) return lock();
  flags |= __tsan_mutex_try_lock;
  __tsan_mutex_pre_lock(mutex, flags);
  const bool locked = lock();
  __tsan_mutex_post_lock(mutex, locked ? flags : flags | __tsan_mutex_try_lock_failed, 0);
  return locked;
}

template <typename Call>
void Unlocking(void* mutex, unsigned flags, const Call& unlock) {
  const Nesting level;
  if (level.inner()) return unlock();
  __tsan_mutex_pre_unlock(mutex, flags);
  unlock();
  __tsan_mutex_post_unlock(mutex, flags);
}

// Runs `wait`, which gives the held `mutex` away for a while and returns with it held in the same way.
template <typename Call>
auto Waiting(void* mutex, unsigned flags, const Call& wait) {
  if (nesting == 0) {
    __tsan_mutex_pre_unlock(mutex, flags);
    __tsan_mutex_post_unlock(mutex, flags);
  }
  return Locking(mutex, flags, wait);
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

// The hidden function of a mangled name; a member takes `this` first.
#define NEXT(type, symbol)                                \
  ([] {                                                   \
    static auto* const next = NextFunction<type>(symbol); \
    return next;                                          \
  }())
#define NEXT_OF_MUTEX(type, symbol) NEXT(type, "_ZN4absl7debian35Mutex" symbol)

Mutex::~Mutex() {
  const Nesting level;
  if (!level.inner()) __tsan_mutex_destroy(this, __tsan_mutex_not_static);
  NEXT_OF_MUTEX(void(Mutex*), "D1Ev")(this);
}

void Mutex::Lock() {
  Locking(this, 0, [this] { NEXT_OF_MUTEX(void(Mutex*), "4LockEv")(this); });
}
void Mutex::ReaderLock() {
  Locking(this, __tsan_mutex_read_lock, [this] { NEXT_OF_MUTEX(void(Mutex*), "10ReaderLockEv")(this); });
}
bool Mutex::TryLock() {
  return TryLocking(this, 0, [this] { return NEXT_OF_MUTEX(bool(Mutex*), "7TryLockEv")(this); });
}
bool Mutex::ReaderTryLock() {
  return TryLocking(this, __tsan_mutex_read_lock, [this] { return NEXT_OF_MUTEX(bool(Mutex*), "13ReaderTryLockEv")(this); });
}
void Mutex::Unlock() {
  Unlocking(this, 0, [this] { NEXT_OF_MUTEX(void(Mutex*), "6UnlockEv")(this); });
}
void Mutex::ReaderUnlock() {
  Unlocking(this, __tsan_mutex_read_lock, [this] { NEXT_OF_MUTEX(void(Mutex*), "12ReaderUnlockEv")(this); });
}

void Mutex::LockWhen(const Condition& condition) {
  Locking(this, 0, [&] { NEXT_OF_MUTEX(void(Mutex*, const Condition&), "8LockWhenERKNS0_9ConditionE")(this, condition); });
}
void Mutex::ReaderLockWhen(const Condition& condition) {
  Locking(this, __tsan_mutex_read_lock, [&] {
    NEXT_OF_MUTEX(void(Mutex*, const Condition&), "14ReaderLockWhenERKNS0_9ConditionE")(this, condition);
  });
}
bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  return Locking(this, 0, [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Duration), "19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE")(this, condition,
                                                                                                                            timeout);
  });
}
bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  return Locking(this, 0, [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Time), "20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE")(this, condition,
                                                                                                                     deadline);
  });
}
bool Mutex::ReaderLockWhenWithTimeout(const Condition& condition, Duration timeout) {
  return Locking(this, __tsan_mutex_read_lock, [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Duration), "25ReaderLockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE")(
        this, condition, timeout);
  });
}
bool Mutex::ReaderLockWhenWithDeadline(const Condition& condition, Time deadline) {
  return Locking(this, __tsan_mutex_read_lock, [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Time), "26ReaderLockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE")(this, condition,
                                                                                                                           deadline);
  });
}

namespace {
// How a mutex in this state is held: bit 3 is set while a writer holds it (kMuWriter in Abseil's mutex.cc).
unsigned HeldAs(intptr_t state) { return (state & 8) != 0 ? 0 : __tsan_mutex_read_lock; }
}  // namespace

void Mutex::Await(const Condition& condition) {
  Waiting(this, HeldAs(mu_.load(std::memory_order_relaxed)), [&] {
    NEXT_OF_MUTEX(void(Mutex*, const Condition&), "5AwaitERKNS0_9ConditionE")(this, condition);
  });
}
bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  return Waiting(this, HeldAs(mu_.load(std::memory_order_relaxed)), [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Duration), "16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE")(this, condition,
                                                                                                                         timeout);
  });
}
bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  return Waiting(this, HeldAs(mu_.load(std::memory_order_relaxed)), [&] {
    return NEXT_OF_MUTEX(bool(Mutex*, const Condition&, Time), "17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE")(this, condition,
                                                                                                                  deadline);
  });
}

// As a writer: neither gRPC nor this project waits here with a reader's lock.
void CondVar::Wait(Mutex* mutex) {
  Waiting(mutex, 0, [&] { NEXT(void(CondVar*, Mutex*), "_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE")(this, mutex); });
}
bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  return Waiting(mutex, 0, [&] {
    return NEXT(bool(CondVar*, Mutex*, Duration), "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE")(this, mutex,
                                                                                                                          timeout);
  });
}
bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  return Waiting(mutex, 0, [&] {
    return NEXT(bool(CondVar*, Mutex*, Time), "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE")(this, mutex, deadline);
  });
}

// Whoever finds the flag set, also without the lock, comes after Notify().
void Notification::Notify() {
  __tsan_release(&notified_yet_);
  NEXT(void(Notification*), "_ZN4absl7debian312Notification6NotifyEv")(this);
}
void Notification::WaitForNotification() const {
  NEXT(void(const Notification*), "_ZNK4absl7debian312Notification19WaitForNotificationEv")(this);
  __tsan_acquire(const_cast<std::atomic<bool>*>(&notified_yet_));
}
bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  const bool notified = NEXT(bool(const Notification*, Duration),
                             "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE")(this, timeout);
  if (notified) __tsan_acquire(const_cast<std::atomic<bool>*>(&notified_yet_));
  return notified;
}
bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  const bool notified =
      NEXT(bool(const Notification*, Time), "_ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE")(this, deadline);
  if (notified) __tsan_acquire(const_cast<std::atomic<bool>*>(&notified_yet_));
  return notified;
}

// All who count down come before whoever has waited.
bool BlockingCounter::DecrementCount() {
  __tsan_release(this);
  return NEXT(bool(BlockingCounter*), "_ZN4absl7debian315BlockingCounter14DecrementCountEv")(this);
}
void BlockingCounter::Wait() {
  NEXT(void(BlockingCounter*), "_ZN4absl7debian315BlockingCounter4WaitEv")(this);
  __tsan_acquire(this);
}

// A status that threads share is counted: who gives it up comes before who frees it.
void Status::UnrefNonInlined(uintptr_t rep) {
  void* const shared = reinterpret_cast<void*>(rep & ~uintptr_t{3});
  __tsan_release(shared);
  __tsan_acquire(shared);
  NEXT(void(uintptr_t), "_ZN4absl7debian36Status15UnrefNonInlinedEm")(rep);
}

#undef NEXT_OF_MUTEX
#undef NEXT
ABSL_NAMESPACE_END
}  // namespace absl
