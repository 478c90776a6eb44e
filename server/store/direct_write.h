#ifndef MYRIAD_SERVER_STORE_DIRECT_WRITE_H_
#define MYRIAD_SERVER_STORE_DIRECT_WRITE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace myriad {

// What a disk does when nothing stands between: seconds for one file of `bytes` in `folder`, front to back in writes of 1 MiB past the
// system's cache, synced at the end. The file is gone when it returns. Errors: those of the system.
absl::StatusOr<double> WriteDirectly(const std::string& folder, int64_t bytes);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_DIRECT_WRITE_H_
