#include "server/store/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace myriad {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t ReadNumber(const char* path) {
  std::ifstream file(path);
  int64_t value;
  return file >> value ? value : kUnknown;  // "max" is no number: no limit.
}

int64_t ReadMemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word) {
    int64_t kib;
    if (word == "MemAvailable:" && file >> kib) return kib * 1024;
  }
  return kUnknown;
}

}  // namespace

int64_t AvailableMemoryBytes() {
  int64_t available = ReadMemAvailable();
  const int64_t limit = ReadNumber("/sys/fs/cgroup/memory.max");
  const int64_t used = ReadNumber("/sys/fs/cgroup/memory.current");
  if (limit != kUnknown && used != kUnknown) available = std::min(available, std::max<int64_t>(0, limit - used));
  return available;
}

}  // namespace myriad
