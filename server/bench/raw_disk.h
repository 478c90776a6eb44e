#ifndef MYRIAD_SERVER_BENCH_RAW_DISK_H_
#define MYRIAD_SERVER_BENCH_RAW_DISK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/cold_store_trace.h"
#include "server/store/io_pool.h"

namespace myriad {

// What the disk does when nothing stands between: preads and pwrites past the system's cache. Seconds, or the system's error.

// The reads of a trace, as many in flight as the pool has threads; writes in it are passed over.
absl::StatusOr<double> ReplayReads(absl::Span<const FileAccess> trace, IoPool* pool);

// The writes to table files of a trace, to files of the same sizes in `folder`: each file by one thread, several files at a time, each
// synced once. The files are gone when it returns.
absl::StatusOr<double> ReplayTableWrites(absl::Span<const FileAccess> trace, const std::string& folder, IoPool* pool);

// Of such accesses.
int64_t BytesRead(absl::Span<const FileAccess> trace);
int64_t TableBytesWritten(absl::Span<const FileAccess> trace);

}  // namespace myriad

#endif  // MYRIAD_SERVER_BENCH_RAW_DISK_H_
