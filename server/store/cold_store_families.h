#ifndef MYRIAD_SERVER_STORE_COLD_STORE_FAMILIES_H_
#define MYRIAD_SERVER_STORE_COLD_STORE_FAMILIES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <rocksdb/db.h>
#include <rocksdb/iterator.h>
#include <rocksdb/options.h>
#include <rocksdb/slice.h>
#include <rocksdb/status.h>

namespace myriad {

// The records of a cold store lie in two column families. Those that were written in stretches of consecutive keys lie in `stretches`: each
// of its files covers few keys, so what comes back replaces itself and nothing else. Those that were written alone lie in `scattered`,
// whose files all cover about all keys. A record there is newer than one of its key in `stretches`: whoever writes a stretch deletes its
// range from `scattered` in the same instant. Thread-safe.
class ColdStoreFamilies {
 public:
  // What is borrowed outlives it.
  ColdStoreFamilies(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* stretches, rocksdb::ColumnFamilyHandle* scattered)
      : db_(db), stretches_(stretches), scattered_(scattered) {}

  rocksdb::ColumnFamilyHandle* stretches() const { return stretches_; }
  rocksdb::ColumnFamilyHandle* scattered() const { return scattered_; }

  // As those of rocksdb::DB. Requires: keys strictly increasing, at most kMostKeys.
  static constexpr size_t kMostKeys = 32;
  rocksdb::Status Get(const rocksdb::ReadOptions& read, const rocksdb::Slice& key, rocksdb::PinnableSlice* value) const;
  void MultiGet(const rocksdb::ReadOptions& read, size_t count, const rocksdb::Slice* keys, rocksdb::PinnableSlice* values,
                rocksdb::Status* statuses) const;

  // Records in order of their keys, each as new as it was when the iterator was made, or newer. Not thread-safe.
  class Iterator {
   public:
    Iterator(std::unique_ptr<rocksdb::Iterator> stretches, std::unique_ptr<rocksdb::Iterator> scattered)
        : stretches_(std::move(stretches)), scattered_(std::move(scattered)) {}
    void Seek(const rocksdb::Slice& key);
    bool Valid() const { return at_ != nullptr; }
    // Requires: Valid().
    void Next();
    rocksdb::Slice key() const { return at_->key(); }
    rocksdb::Slice value() const { return at_->value(); }
    // Once it is not Valid(): OK if it came to the end.
    rocksdb::Status status() const;

   private:
    void Choose();

    const std::unique_ptr<rocksdb::Iterator> stretches_;
    const std::unique_ptr<rocksdb::Iterator> scattered_;
    rocksdb::Iterator* at_ = nullptr;  // The one whose record is next.
  };
  // `read.iterate_upper_bound` outlives the iterator. Errors show in its status().
  Iterator NewIterator(const rocksdb::ReadOptions& read) const;

  // The sum of a number of both.
  int64_t Property(const std::string& name) const;

 private:
  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle* const stretches_;
  rocksdb::ColumnFamilyHandle* const scattered_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_STORE_FAMILIES_H_
