#include "server/store/hot_rows.h"

namespace myriad {
namespace {

int64_t FloatsOf(int64_t bytes) { return (bytes + static_cast<int64_t>(sizeof(float)) - 1) / static_cast<int64_t>(sizeof(float)); }

}  // namespace

HotRows::HotRows(int64_t record_bytes) : slab_(FloatsOf(record_bytes)) {}

void HotRows::MarkChanged(uint32_t record, int64_t step, int64_t now) {
  slab_.LastStep(record) = step;
  if (Has(record, kDirty)) return;
  Set(record, kDirty);
  dirty_since_[record] = static_cast<uint32_t>(now);
  ++dirty_count_;
}

void HotRows::MarkClean(uint32_t record) {
  dirty_count_ -= Has(record, kDirty);
  Unset(record, kDirty);
}

absl::Status HotRows::MakeRoomFor(absl::Span<const int64_t> absent) {
  if (absl::Status status = slab_.Ensure(absent.size()); !status.ok()) return status;
  table_.ReserveFor(absent);
  const size_t most = flags_.size() + absent.size();
  if (most > flags_.capacity()) {
    class_of_.reserve(most + most / 4);
    dirty_since_.reserve(most + most / 4);
    flags_.reserve(most + most / 4);
  }
  return absl::OkStatus();
}

absl::Status HotRows::Reserve(int64_t count) {
  if (absl::Status status = slab_.Ensure(count); !status.ok()) return status;
  table_.Reserve(count);
  slab_.Prefault(count);
  return absl::OkStatus();
}

uint32_t HotRows::Take() {
  const uint32_t record = slab_.Take();
  if (record >= flags_.size()) {
    class_of_.resize(record + 1, -1);
    dirty_since_.resize(record + 1, 0);
    flags_.resize(record + 1, 0);
  }
  return record;
}

void HotRows::Insert(int64_t class_id, uint32_t record, uint8_t flags) {
  table_.Insert(class_id, record);
  class_of_[record] = class_id;
  flags_[record] = flags | kResident;
}

void HotRows::Detach(uint32_t record) {
  MarkClean(record);
  table_.Erase(class_of_[record]);
  class_of_[record] = -1;
  Unset(record, kResident);
}

void HotRows::Return(uint32_t record) {
  flags_[record] = 0;
  slab_.Return(record);
}

void HotRows::Trim(int64_t count) {
  slab_.Trim(count);
  if (count >= taken_count()) return;
  class_of_.resize(count);
  dirty_since_.resize(count);
  flags_.resize(count);
  hand_ = 0;
}

uint32_t HotRows::NextVictim(bool kept_too) {
  const uint8_t stays = kPinned | kLoading | (kept_too ? 0 : kKept);
  // Twice round: the first time marks of use are taken off, the second finds a record unless all have to stay.
  for (size_t looked = 0; looked < 2 * flags_.size(); ++looked) {
    const uint32_t record = hand_;
    hand_ = hand_ + 1 == flags_.size() ? 0 : hand_ + 1;
    uint8_t& flags = flags_[record];
    if ((flags & kResident) == 0 || (flags & stays) != 0) continue;
    if ((flags & kUsed) == 0) return record;
    flags &= ~kUsed;
  }
  return kNone;
}

}  // namespace myriad
