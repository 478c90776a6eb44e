#include "server/runtime/timer.h"

#include <atomic>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

TEST(ThreadTimerTest, RunsTasksInTheOrderOfTheirTimes) {
  ThreadTimer timer;
  absl::Notification done;
  std::vector<int> order;
  const absl::Time start = timer.Now();
  timer.RunAt(start + absl::Milliseconds(30), [&] {
    order.push_back(3);
    done.Notify();
  });
  timer.RunAt(start + absl::Milliseconds(10), [&] { order.push_back(1); });
  timer.RunAt(start + absl::Milliseconds(20), [&] { order.push_back(2); });
  done.WaitForNotification();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_GE(timer.Now(), start + absl::Milliseconds(30));
}

TEST(ThreadTimerTest, ACancelledTaskDoesNotRun) {
  ThreadTimer timer;
  absl::Notification done;
  std::atomic<bool> ran{false};
  const absl::Time soon = timer.Now() + absl::Milliseconds(20);
  const Timer::Id id = timer.RunAt(soon, [&] { ran = true; });
  timer.RunAt(soon + absl::Milliseconds(1), [&] { done.Notify(); });
  timer.Cancel(id);
  timer.Cancel(id);
  timer.Cancel(12345);
  done.WaitForNotification();
  EXPECT_FALSE(ran);
}

TEST(ThreadTimerTest, StopForgetsWhatIsLeftAndWhatComesLater) {
  std::atomic<bool> ran{false};
  ThreadTimer timer;
  timer.RunAt(timer.Now() + absl::Hours(1), [&] { ran = true; });
  timer.Stop();
  timer.RunAt(timer.Now(), [&] { ran = true; });
  timer.Stop();
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace myriad
