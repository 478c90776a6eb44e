#include "server/store/cold_store_families.h"

#include <utility>

namespace myriad {

// `scattered` first, here and below: what goes from there to `stretches` between the two looks is then seen there.
rocksdb::Status ColdStoreFamilies::Get(const rocksdb::ReadOptions& read, const rocksdb::Slice& key, rocksdb::PinnableSlice* value) const {
  const rocksdb::Status status = db_->Get(read, scattered_, key, value);
  if (!status.IsNotFound()) return status;
  value->Reset();
  return db_->Get(read, stretches_, key, value);
}

void ColdStoreFamilies::MultiGet(const rocksdb::ReadOptions& read, size_t count, const rocksdb::Slice* keys, rocksdb::PinnableSlice* values,
                                 rocksdb::Status* statuses) const {
  db_->MultiGet(read, scattered_, count, keys, values, statuses, /*sorted_input=*/true);
  size_t others[kMostKeys];
  rocksdb::Slice other_keys[kMostKeys];
  rocksdb::PinnableSlice other_values[kMostKeys];
  rocksdb::Status other_statuses[kMostKeys];
  size_t other_count = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!statuses[i].IsNotFound()) continue;
    others[other_count] = i;
    other_keys[other_count++] = keys[i];
  }
  if (other_count == 0) return;
  db_->MultiGet(read, stretches_, other_count, other_keys, other_values, other_statuses, /*sorted_input=*/true);
  for (size_t i = 0; i < other_count; ++i) {
    values[others[i]] = std::move(other_values[i]);
    statuses[others[i]] = std::move(other_statuses[i]);
  }
}

void ColdStoreFamilies::Iterator::Seek(const rocksdb::Slice& key) {
  stretches_->Seek(key);
  scattered_->Seek(key);
  Choose();
}

void ColdStoreFamilies::Iterator::Next() {
  const bool both = at_ == scattered_.get() && stretches_->Valid() && stretches_->key() == scattered_->key();
  at_->Next();
  if (both) stretches_->Next();
  Choose();
}

void ColdStoreFamilies::Iterator::Choose() {
  at_ = nullptr;
  if (!status().ok()) return;  // Else an older record would stand for one that cannot be read.
  if (scattered_->Valid() && (!stretches_->Valid() || scattered_->key().compare(stretches_->key()) <= 0)) {
    at_ = scattered_.get();
  } else if (stretches_->Valid()) {
    at_ = stretches_.get();
  }
}

rocksdb::Status ColdStoreFamilies::Iterator::status() const {
  const rocksdb::Status status = scattered_->status();
  return status.ok() ? stretches_->status() : status;
}

// Not by NewIterators() of RocksDB: it takes the number of the last write before it takes the files, and a flush may come between.
ColdStoreFamilies::Iterator ColdStoreFamilies::NewIterator(const rocksdb::ReadOptions& read) const {
  std::unique_ptr<rocksdb::Iterator> scattered(db_->NewIterator(read, scattered_));
  std::unique_ptr<rocksdb::Iterator> stretches(db_->NewIterator(read, stretches_));
  return {std::move(stretches), std::move(scattered)};
}

int64_t ColdStoreFamilies::Property(const std::string& name) const {
  uint64_t sum = 0;
  for (rocksdb::ColumnFamilyHandle* family : {stretches_, scattered_}) {
    uint64_t value = 0;
    db_->GetIntProperty(family, name, &value);
    sum += value;
  }
  return static_cast<int64_t>(sum);
}

}  // namespace myriad
