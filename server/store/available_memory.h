#ifndef MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_
#define MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_

#include <cstdint>
#include <string>

namespace myriad {

// Bytes that this process can still take without pushing out others: the least of what the machine has (/proc/meminfo, MemAvailable) and
// what each control group of the process, from its own up to the root, leaves of its limit. Page cache of a group counts as free: the
// kernel drops it first. Versions 1 and 2 of control groups are read. A large number where nothing can be read.
// `root` stands before /proc and /sys; tests have files of their own there.
int64_t AvailableMemoryBytes(const std::string& root = "");

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_
