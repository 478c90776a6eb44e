#include "server/store/cold_store_health.h"

namespace myriad {

rocksdb::Status ColdStoreHealth::error() const {
  absl::MutexLock lock(&mu_);
  return write_error_.ok() ? compaction_error_ : write_error_;
}

void ColdStoreHealth::AwaitNews(absl::Duration most) {
  absl::MutexLock lock(&mu_);
  news_.WaitWithTimeout(&mu_, most);
}

void ColdStoreHealth::Report(rocksdb::Status* which, const rocksdb::Status& status) {
  *which = status;
  news_.SignalAll();
}

void ColdStoreHealth::OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) {
  absl::MutexLock lock(&mu_);
  Report(&write_error_, rocksdb::Status::OK());
}

void ColdStoreHealth::OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo& info) {
  absl::MutexLock lock(&mu_);
  Report(&compaction_error_, info.status);
}

void ColdStoreHealth::OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) {
  absl::MutexLock lock(&mu_);
  Report(reason == rocksdb::BackgroundErrorReason::kCompaction ? &compaction_error_ : &write_error_, *error);
}

void ColdStoreHealth::OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) {
  absl::MutexLock lock(&mu_);
  if (info.new_bg_error.ok()) Report(&write_error_, rocksdb::Status::OK());
}

}  // namespace myriad
