#ifndef MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_
#define MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_

#include <cstdint>

namespace myriad {

// Bytes that this process can still take without pushing out others: the smaller of the machine's (/proc/meminfo, MemAvailable) and
// what the control group leaves. A large number where neither can be read.
int64_t AvailableMemoryBytes();

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_AVAILABLE_MEMORY_H_
