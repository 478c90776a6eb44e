#ifndef MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_
#define MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "head/partitions.h"
#include "server/store/row_key.h"

namespace myriad {

// Which rows of a shard exist: a bit a class, in the order of row keys. A row whose bit is clear is virtual; one whose bit is set and that
// is nowhere to be found is lost, never made up anew. A partition in which no bit was set takes no memory. Thread-compatible.
class PresenceBitmap {
 public:
  // Of the partitions that shard `shard` of `shard_count` owns.
  PresenceBitmap(const Partitions& partitions, int shard, int shard_count);

  // Requires of all: the key's partition is of this shard, its index below the partition's size.
  bool Test(RowKey key) const;
  // Allocates nothing after MakeRoom() for the same key, which may throw std::bad_alloc.
  void Set(RowKey key);
  void MakeRoom(RowKey key);
  void Clear(RowKey key);

  // Bits that are set.
  int64_t count() const { return count_; }

  // Up to `max` keys greater than `after` (-1: from the start) whose bit is set, ascending; fewer mean that no more follow.
  std::vector<RowKey> Next(RowKey after, int64_t max) const;

  // The bitmap as bytes, with its shape and a checksum; Parse() takes no others.
  // Errors of Parse: DATA_LOSS (cut short, damaged), FAILED_PRECONDITION (of other partitions or another number of classes).
  std::string Serialize() const;
  absl::Status Parse(const std::string& bytes);

 private:
  struct Shape {
    int64_t class_count;
    int64_t first_partition;
    int64_t last_partition;
    int64_t set_count;
  };
  std::vector<uint64_t>& WordsOf(int32_t partition) { return words_[partition - first_]; }
  const std::vector<uint64_t>& WordsOf(int32_t partition) const { return words_[partition - first_]; }

  const Partitions partitions_;
  const int32_t first_;  // Partitions [first_, last_).
  const int32_t last_;
  std::vector<std::vector<uint64_t>> words_;  // Of each partition; empty until a bit is set.
  int64_t count_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_
