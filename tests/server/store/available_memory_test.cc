#include "server/store/available_memory.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// /proc and /sys of some machine.
class AvailableMemoryTest : public ::testing::Test {
 protected:
  AvailableMemoryTest() { Write("/proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1024 kB\nMemAvailable: 2097152 kB\n"); }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = Root() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string Root() const { return dir_.path(); }
  int64_t MebibytesAvailable() const { return AvailableMemoryBytes(Root()) / kMiB; }

 private:
  const TempDir dir_;
};

TEST_F(AvailableMemoryTest, WithoutGroupsTheMachinesIsTold) { EXPECT_EQ(MebibytesAvailable(), 2048); }

TEST_F(AvailableMemoryTest, WhereNothingCanBeReadThereIsNoLimit) { EXPECT_GT(AvailableMemoryBytes(Root() + "/nothing"), int64_t{1} << 60); }

TEST_F(AvailableMemoryTest, PageCacheOfAGroupIsFree) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1073741824\n");
  Write("/sys/fs/cgroup/memory.current", "1073700000\n");
  Write("/sys/fs/cgroup/memory.stat", "anon 100\nfile 629145600\ninactive_anon 7\ninactive_file 419430400\nactive_file 209715200\n");
  EXPECT_EQ(MebibytesAvailable(), 600);
}

TEST_F(AvailableMemoryTest, AGroupWithoutLimitTakesNothingAway) {
  Write("/proc/self/cgroup", "0::/user.slice\n");
  Write("/sys/fs/cgroup/user.slice/memory.max", "max\n");
  Write("/sys/fs/cgroup/user.slice/memory.current", "104857600\n");
  EXPECT_EQ(MebibytesAvailable(), 2048);
}

TEST_F(AvailableMemoryTest, TheLeastOfTheGroupAndThoseAboveItCounts) {
  Write("/proc/self/cgroup", "0::/jobs.slice/train.service\n");
  Write("/sys/fs/cgroup/jobs.slice/train.service/memory.max", "1073741824\n");
  Write("/sys/fs/cgroup/jobs.slice/train.service/memory.current", "104857600\n");
  EXPECT_EQ(MebibytesAvailable(), 924);
  Write("/sys/fs/cgroup/jobs.slice/memory.max", "524288000\n");
  Write("/sys/fs/cgroup/jobs.slice/memory.current", "419430400\n");
  EXPECT_EQ(MebibytesAvailable(), 100);
}

TEST_F(AvailableMemoryTest, Version1IsReadToo) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/box\n4:hugetlb,memory:/box\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4194304000\n");
  Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "524288000\n");
  Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "419430400\n");
  Write("/sys/fs/cgroup/memory/box/memory.stat", "cache 1\ninactive_file 0\ntotal_inactive_file 52428800\ntotal_active_file 0\n");
  EXPECT_EQ(MebibytesAvailable(), 150);
}

// In a container the path may be the host's, while the mount shows the container's own group at its root.
TEST_F(AvailableMemoryTest, AGroupThatIsNotThereIsPassedOver) {
  Write("/proc/self/cgroup", "4:memory:/docker/0123:weird\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "524288000\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "419430400\n");
  EXPECT_EQ(MebibytesAvailable(), 100);
}

TEST_F(AvailableMemoryTest, AGroupOverItsLimitLeavesNothing) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "100\n");
  Write("/sys/fs/cgroup/memory.current", "200\n");
  EXPECT_EQ(AvailableMemoryBytes(Root()), 0);
}

}  // namespace
}  // namespace myriad
