#include "server/store/io_pool.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"

namespace myriad {
namespace {

TEST(IoPoolTest, EachPartRunsOnceWhoeverElseIsAtWork) {
  IoPool pool(3);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&pool, caller] {
      for (int64_t parts = 0; parts < 50; ++parts) {
        std::vector<std::atomic<int>> runs(parts);
        pool.Run(parts, [&](int64_t part) { ++runs[part]; });
        for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1) << caller;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// Each part waits for all others: they are under way together.
TEST(IoPoolTest, AsManyPartsAsThreadsAreInFlight) {
  IoPool pool(5);
  auto* together = new absl::Barrier(5);
  pool.Run(5, [&](int64_t) {
    if (together->Block()) delete together;
  });
}

// Its threads end nobody's process.
TEST(IoPoolTest, WhatAPartThrowsComesToTheCaller) {
  IoPool pool(3);
  std::atomic<int> ran{0};
  EXPECT_THROW(pool.Run(20,
                        [&](int64_t part) {
                          ++ran;
                          if (part % 7 == 3) throw std::bad_alloc();
                        }),
               std::bad_alloc);
  EXPECT_EQ(ran, 20) << "all parts have ended by then";
  pool.Run(20, [&](int64_t) { ++ran; });
  EXPECT_EQ(ran, 40);
}

// Room for the stacks of some threads, until the object goes.
class LittleAddressSpace {
 public:
  LittleAddressSpace() {
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    EXPECT_EQ(::getrlimit(RLIMIT_AS, &before_), 0);
    rlimit little = before_;
    little.rlim_cur = pages * ::sysconf(_SC_PAGESIZE) + (int64_t{64} << 20);
    EXPECT_EQ(::setrlimit(RLIMIT_AS, &little), 0);
  }
  ~LittleAddressSpace() { ::setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_;
};

// Those that run by then would wait for work for ever.
TEST(IoPoolTest, ThreadsThatTheSystemDoesNotStartEndNoProcess) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "a sanitizer ends the process itself where it finds no address space";
#endif
  {
    const LittleAddressSpace little;
    EXPECT_THROW(IoPool(4096), std::system_error);
  }
  IoPool pool(2);
  std::atomic<int> ran{0};
  pool.Run(4, [&](int64_t) { ++ran; });
  EXPECT_EQ(ran, 4);
}

// The long call cannot end before the short one has: its parts wait for it.
TEST(IoPoolTest, AShortCallDoesNotWaitForALongOne) {
  IoPool pool(2);
  absl::Notification begun, short_done;
  std::thread long_call([&] {
    pool.Run(100, [&](int64_t part) {
      if (part == 0) begun.Notify();
      if (part == 1) short_done.WaitForNotification();
    });
  });
  begun.WaitForNotification();
  pool.Run(2, [](int64_t) {});
  short_done.Notify();
  long_call.join();
}

}  // namespace
}  // namespace myriad
