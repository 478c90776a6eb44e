#ifndef MYRIAD_SERVER_STORE_COLD_STORE_HEALTH_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_HEALTH_H_

#include <rocksdb/listener.h>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace myriad {

// What RocksDB's own threads last met: the error that stops them, if one does, and news for writers that wait for them. Thread-safe.
class ColdStoreHealth : public rocksdb::EventListener {
 public:
  // OK, or what flushes or compactions failed of and have not overcome since.
  rocksdb::Status error() const;
  // Returns when a flush or compaction ends or fails, or after `most`.
  void AwaitNews(absl::Duration most);

  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo& info) override;
  void OnCompactionCompleted(rocksdb::DB* db, const rocksdb::CompactionJobInfo& info) override;
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override;
  void OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) override;

 private:
  void Report(rocksdb::Status* which, const rocksdb::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  absl::CondVar news_;
  // Apart: a compaction that succeeds says nothing about flushes.
  rocksdb::Status write_error_ ABSL_GUARDED_BY(mu_);
  rocksdb::Status compaction_error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_HEALTH_H_
