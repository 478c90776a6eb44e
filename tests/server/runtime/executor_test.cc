#include "server/runtime/executor.h"

#include <atomic>
#include <memory>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace myriad {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskAlsoThoseGivenWhileItStops) {
  std::atomic<int> ran{0};
  auto pool = std::make_unique<ThreadPool>(3, nullptr);
  for (int i = 0; i < 1000; ++i) {
    pool->Run([&ran, pool = pool.get()] {
      ++ran;
      pool->Run([&ran] { ++ran; });
    });
  }
  pool.reset();
  EXPECT_EQ(ran, 2000);
}

TEST(ThreadPoolTest, AnIdlePoolTakesTasksOneAfterAnother) {
  ThreadPool pool(2, nullptr);
  for (int i = 0; i < 200; ++i) {
    absl::Notification done;
    pool.Run([&] { done.Notify(); });
    done.WaitForNotification();
  }
}

TEST(StrandTest, RunsInOrderAndNeverTwoAtOnce) {
  std::vector<int> order;
  std::atomic<int> inside{0};
  {
    ThreadPool pool(4, nullptr);
    Strand strand(&pool);
    absl::BlockingCounter all(500);
    for (int i = 0; i < 500; ++i) {
      strand.Run([&, i] {
        EXPECT_EQ(++inside, 1);
        order.push_back(i);
        --inside;
        all.DecrementCount();
      });
    }
    all.Wait();
  }
  for (int i = 0; i < 500; ++i) EXPECT_EQ(order[i], i);
}

// A strand whose task waits for another strand's task must not keep a pool of two from running it.
TEST(StrandTest, StrandsRunBesideEachOther) {
  ThreadPool pool(2, nullptr);
  Strand a(&pool), b(&pool);
  absl::Notification from_b, done;
  a.Run([&] {
    from_b.WaitForNotification();
    done.Notify();
  });
  b.Run([&] { from_b.Notify(); });
  done.WaitForNotification();
}

}  // namespace
}  // namespace myriad
