#ifndef MYRIAD_SERVER_STORE_COLD_STORE_TRACE_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_TRACE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/store/cold_store.h"

namespace myriad {

// One read or write that a cold store asked of the file system.
struct FileAccess {
  std::string path;
  int64_t offset = 0;
  int64_t bytes = 0;
  bool is_write = false;
};

// What a cold store asks of the file system between two moments, in the order in which it was asked: benchmarks do the same without the
// store. Thread-safe.
class ColdStoreTrace {
 public:
  void Start();
  std::vector<FileAccess> Stop();
  void Add(FileAccess access);

 private:
  absl::Mutex mu_;
  bool on_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<FileAccess> accesses_ ABSL_GUARDED_BY(mu_);
};

// ColdStore::Open() with a trace, which outlives the store.
absl::StatusOr<std::unique_ptr<ColdStore>> OpenTracedColdStore(const ColdStore::Options& options, ColdStoreTrace* trace);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_TRACE_H_
