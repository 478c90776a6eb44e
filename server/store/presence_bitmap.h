#ifndef MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_
#define MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "head/partitions.h"
#include "server/store/row_key.h"

namespace myriad {

// Which rows of a shard exist: a bit a class, in the order of row keys. A row whose bit is clear is virtual; one whose bit is set and that
// is nowhere to be found is lost, never made up anew. Bits lie in pages of 512 neighbours in a partition; a page in which no bit was set
// takes no memory, so 2^40 classes of which few were touched cost what was touched. Thread-compatible.
class PresenceBitmap {
 public:
  // Of the partitions that shard `shard` of `shard_count` owns.
  PresenceBitmap(const Partitions& partitions, int shard, int shard_count);

  // Requires of all: the key's partition is of this shard, its index below the partition's size.
  bool Test(RowKey key) const;
  // Allocates nothing after MakeRoom() for the same key, which may throw std::bad_alloc.
  void Set(RowKey key);
  void MakeRoom(RowKey key) { pages_.try_emplace(PageOf(key), Page{}); }
  void Clear(RowKey key);

  // The same head with another number of classes: no key changes its place. Requires: the same seed and number of partitions; every bit
  // that is set is of a class that stays.
  void Grow(const Partitions& partitions) { partitions_ = partitions; }

  // Bits that are set.
  int64_t count() const { return count_; }

  // Up to `max` keys greater than `after` (-1: from the start) whose bit is set, ascending; fewer mean that no more follow. Sorts the
  // numbers of all pages: for passes over all rows.
  std::vector<RowKey> Next(RowKey after, int64_t max) const;
  // All keys of a partition whose bit is set, ascending. O(classes of the partition / 512) at least.
  std::vector<RowKey> KeysOf(int32_t partition) const;

  // The most that the bitmap of so many classes takes.
  static int64_t MemoryBytes(int64_t class_count);

  // The bitmap as bytes, with its shape and a checksum; Parse() takes no others and changes nothing when it fails.
  // Errors of Parse: DATA_LOSS (cut short, damaged), FAILED_PRECONDITION (of other partitions or another number of classes).
  std::string Serialize() const;
  absl::Status Parse(absl::string_view bytes);

 private:
  static constexpr int kPageBits = 9;
  using Page = std::array<uint64_t, (1 << kPageBits) / 64>;

  static int64_t PageOf(RowKey key) { return key >> kPageBits; }
  static size_t WordOf(RowKey key) { return (key >> 6) % std::tuple_size<Page>::value; }
  static uint64_t BitOf(RowKey key) { return uint64_t{1} << (key & 63); }
  std::vector<int64_t> SortedPages() const;
  // Appends the keys of a page that are greater than `after`, `max` at most in all.
  static void AppendKeys(int64_t page_number, const Page& page, RowKey after, int64_t max, std::vector<RowKey>* keys);

  Partitions partitions_;
  const int32_t first_;  // Partitions [first_, last_).
  const int32_t last_;
  absl::flat_hash_map<int64_t, Page> pages_;  // By PageOf() of their keys.
  int64_t count_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_PRESENCE_BITMAP_H_
