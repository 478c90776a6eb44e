#include "server/store/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"

namespace myriad {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t value;
  return file >> value ? value : kUnknown;  // "max" is no number: no limit.
}

// The number that follows `field` in a file of words, or `missing`.
int64_t ReadField(const std::string& path, const std::string& field, int64_t missing) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    int64_t value;
    if (word == field && file >> value) return value;
  }
  return missing;
}

// How a version of control groups calls its files and fields.
struct GroupNames {
  const char* mount;
  const char* limit;
  const char* used;
  const char* page_cache[2];  // Fields of memory.stat, with what lies in the groups beneath.
};
constexpr GroupNames kVersion1 = {
    "/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}};
constexpr GroupNames kVersion2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current", {"inactive_file", "active_file"}};

int64_t LeftByGroup(const GroupNames& names, const std::string& folder) {
  const int64_t limit = ReadNumber(folder + names.limit);
  int64_t used = ReadNumber(folder + names.used);
  if (limit == kUnknown || used == kUnknown) return kUnknown;
  for (const char* field : names.page_cache) used -= ReadField(folder + "/memory.stat", field, 0);
  return std::max<int64_t>(0, limit - std::max<int64_t>(0, used));
}

// A group's limit binds all beneath it. In a container the paths of /proc/self/cgroup may be the host's: what is not there is passed over,
// and the root of the mount is the container's own group.
int64_t LeftByGroups(const GroupNames& names, const std::string& root, std::string group) {
  int64_t left = kUnknown;
  while (true) {
    while (!group.empty() && group.back() == '/') group.pop_back();
    left = std::min(left, LeftByGroup(names, root + names.mount + group));
    if (group.empty()) return left;
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
}

}  // namespace

int64_t AvailableMemoryBytes(const std::string& root) {
  int64_t available = kUnknown;
  if (const int64_t kib = ReadField(root + "/proc/meminfo", "MemAvailable:", kUnknown); kib != kUnknown) available = kib * 1024;
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;  // "ID:CONTROLLERS:PATH"; version 2 has ID 0 and names no controllers.
  while (std::getline(groups, line)) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::vector<std::string> controllers = absl::StrSplit(parts[1], ',');
    if (parts[1].empty()) {
      available = std::min(available, LeftByGroups(kVersion2, root, parts[2]));
    } else if (std::count(controllers.begin(), controllers.end(), "memory") > 0) {
      available = std::min(available, LeftByGroups(kVersion1, root, parts[2]));
    }
  }
  return available;
}

}  // namespace myriad
