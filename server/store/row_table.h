#ifndef MYRIAD_SERVER_STORE_ROW_TABLE_H_
#define MYRIAD_SERVER_STORE_ROW_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace myriad {

// class id -> record number, 12 bytes an entry at a load between 0.6 and 0.75: 16 to 20 bytes a row. Open addressing in many small
// segments by the hash's upper bits: a segment grows alone, so growth never holds two copies of the table, and the segments' sizes are
// staggered so that they do not all grow in one step; they do not shrink. Thread-compatible.
class RowTable {
 public:
  static constexpr uint32_t kNone = 0xffffffff;

  RowTable();

  // The record of a class, or kNone.
  uint32_t Find(int64_t class_id) const;
  // Starts loading what Find() will look at.
  void Prefetch(int64_t class_id) const;
  // Makes room so that inserting `class_ids` (absent, distinct) allocates nothing. Throws std::bad_alloc, having changed nothing visible.
  void ReserveFor(absl::Span<const int64_t> class_ids);
  // Makes room for about `count` more entries of any class.
  void Reserve(int64_t count);
  // Requires: absent; room.
  void Insert(int64_t class_id, uint32_t record);
  // Requires: present. Allocates nothing.
  void Erase(int64_t class_id);

  int64_t size() const { return size_; }

  // Calls visit(class_id, record) for every entry, in no order.
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    for (const Segment& segment : segments_) {
      for (const Entry& entry : segment.entries) {
        if (entry.class_id >= 0) visit(entry.class_id, entry.record);
      }
    }
  }

 private:
  struct __attribute__((packed)) Entry {
    int64_t class_id = -1;
    uint32_t record = 0;
  };
  struct Segment {
    std::vector<Entry> entries;
    uint32_t size = 0;
    uint32_t wanted = 0;  // Entries that ReserveFor() counts to come; scratch.
  };

  static uint64_t Hash(int64_t class_id);
  static size_t SegmentOf(uint64_t hash) { return hash >> 54; }
  // Where the probe of a hash starts: the middle bits scaled to the capacity, which need not be a power of two.
  static size_t SlotOf(uint64_t hash, size_t capacity) { return ((hash >> 22 & 0xffffffff) * capacity) >> 32; }
  static void GrowTo(Segment& segment, size_t entries_needed);

  std::vector<Segment> segments_;
  int64_t size_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_TABLE_H_
