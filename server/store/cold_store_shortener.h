#ifndef MYRIAD_SERVER_STORE_COLD_STORE_SHORTENER_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_SHORTENER_H_

#include <atomic>
#include <cstdint>
#include <string>

#include <rocksdb/compaction_filter.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/store/cold_store.h"

namespace myriad {

// Makes records shorter while compactions copy them anyway: it costs no reads and no writes of its own. Thread-safe.
class ColdStoreShortener : public rocksdb::CompactionFilter {
 public:
  // As ColdStore::KeepShort().
  void Set(int64_t short_bytes, ColdStore::Shortener shortener) ABSL_LOCKS_EXCLUDED(mu_);
  // Of a record by its step, if it has `record_bytes` whole.
  int64_t BytesOf(int64_t step, int64_t record_bytes) const {
    return ColdStore::IsShort(step) && short_bytes_ > 0 ? short_bytes_.load() : record_bytes;
  }

  Decision FilterV2(int level, const rocksdb::Slice& key, ValueType type, const rocksdb::Slice& value, std::string* new_value,
                    std::string* skip_until) const override ABSL_LOCKS_EXCLUDED(mu_);
  const char* Name() const override { return "ColdStoreShortener"; }

 private:
  std::atomic<int64_t> short_bytes_{0};
  mutable absl::Mutex mu_;  // Read by calls of the shortener.
  ColdStore::Shortener shortener_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_SHORTENER_H_
