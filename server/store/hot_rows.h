#ifndef MYRIAD_SERVER_STORE_HOT_ROWS_H_
#define MYRIAD_SERVER_STORE_HOT_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/store/row_table.h"
#include "server/store/slab.h"

namespace myriad {

// The rows that are in memory: records of one size, found by class, and a clock that says whose record may be given to another. The clock's
// mark of use is a bit: a hit writes nothing else. Thread-compatible; bytes of records may be written by several threads.
class HotRows {
 public:
  static constexpr uint32_t kNone = RowTable::kNone;
  // What takes memory beside a record's bytes: its step, class, flags and age, and its entry in the table.
  static constexpr int64_t kBytesBesideRecord = 48;

  enum Flag : uint8_t {
    kResident = 1,  // In the table. Kept by this class.
    kUsed = 2,      // Since the clock last came by.
    kPinned = 4,    // A step works on it.
    kLoading = 8,   // Its bytes are not there yet, and somebody writes them.
    kKept = 16,     // Is to stay as long as there is another that may go.
    kDirty = 32,    // Newer than on disk.
  };

  explicit HotRows(int64_t record_bytes);

  // The record of a class, or kNone.
  uint32_t Find(int64_t class_id) const { return table_.Find(class_id); }
  void Prefetch(int64_t class_id) const { table_.Prefetch(class_id); }

  std::byte* At(uint32_t record) const { return reinterpret_cast<std::byte*>(slab_.At(record)); }
  // As ColdStore has it: ColdStore::kShort is added where only the record's first numbers count.
  int64_t& LastStep(uint32_t record) { return slab_.LastStep(record); }
  int64_t LastStep(uint32_t record) const { return slab_.LastStep(record); }
  // -1 unless it is in the table.
  int64_t ClassOf(uint32_t record) const { return class_of_[record]; }
  bool Has(uint32_t record, uint8_t flags) const { return (flags_[record] & flags) != 0; }
  void Set(uint32_t record, uint8_t flags) { flags_[record] |= flags; }
  void Unset(uint32_t record, uint8_t flags) { flags_[record] &= ~flags; }

  // The row was changed by `step`; it is dirty, since this step unless it was before.
  void MarkChanged(uint32_t record, int64_t step, int64_t now);
  void MarkClean(uint32_t record);
  // The step since which it is dirty, modulo 2^32.
  uint32_t DirtySince(uint32_t record) const { return dirty_since_[record]; }

  // Room for `count` records more, and in the table for these classes, so that taking and inserting them cannot fail.
  // Errors: RESOURCE_EXHAUSTED. May throw std::bad_alloc. Either way nothing visible has changed.
  absl::Status MakeRoomFor(absl::Span<const int64_t> absent);
  absl::Status Reserve(int64_t count);
  // A record that is not in the table. Requires: room.
  uint32_t Take();
  void Insert(int64_t class_id, uint32_t record, uint8_t flags);
  // Out of the table; the record stays with the caller, with its other flags.
  void Detach(uint32_t record);
  // Gives back a record that is not in the table.
  void Return(uint32_t record);
  // Out of the table, and the record back.
  void Remove(uint32_t record) {
    Detach(record);
    Return(record);
  }

  // Gives the memory of records from `count` on back to the system. Requires: none of them is taken.
  void Trim(int64_t count);

  // The next record that may be given to another: not pinned, not on its way, not used since the clock last came by and, unless
  // `kept_too`, not kept. kNone if there is none. The record stays where it is.
  uint32_t NextVictim(bool kept_too);

  int64_t size() const { return table_.size(); }
  int64_t dirty_count() const { return dirty_count_; }
  // Records whose memory the process has, and the number of any record is below this.
  int64_t touched_count() const { return slab_.touched_count(); }
  int64_t taken_count() const { return static_cast<int64_t>(flags_.size()); }

 private:
  Slab slab_;
  RowTable table_;
  // Of each record that was ever taken.
  std::vector<int64_t> class_of_;
  std::vector<uint8_t> flags_;
  std::vector<uint32_t> dirty_since_;
  uint32_t hand_ = 0;
  int64_t dirty_count_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_HOT_ROWS_H_
