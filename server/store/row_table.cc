#include "server/store/row_table.h"

#include <algorithm>
#include <cmath>

namespace myriad {
namespace {

constexpr size_t kSegments = 1024;
constexpr double kMaxLoad = 0.75;
constexpr double kGrowth = 1.25;

bool Fits(size_t entries, size_t capacity) { return entries <= kMaxLoad * capacity; }

}  // namespace

RowTable::RowTable() : segments_(kSegments) {}

// The finalizer of SplitMix64: a bijection that mixes all bits.
uint64_t RowTable::Hash(int64_t class_id) {
  uint64_t x = static_cast<uint64_t>(class_id) + 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint32_t RowTable::Find(int64_t class_id) const {
  const uint64_t hash = Hash(class_id);
  const std::vector<Entry>& entries = segments_[SegmentOf(hash)].entries;
  if (entries.empty()) return kNone;
  for (size_t slot = SlotOf(hash, entries.size());;) {
    const Entry& entry = entries[slot];
    if (entry.class_id == class_id) return entry.record;
    if (entry.class_id < 0) return kNone;
    if (++slot == entries.size()) slot = 0;
  }
}

void RowTable::Prefetch(int64_t class_id) const {
  const uint64_t hash = Hash(class_id);
  const std::vector<Entry>& entries = segments_[SegmentOf(hash)].entries;
  if (!entries.empty()) __builtin_prefetch(&entries[SlotOf(hash, entries.size())]);
}

void RowTable::GrowTo(Segment& segment, size_t entries_needed) {
  if (Fits(entries_needed, segment.entries.size())) return;
  const size_t capacity = std::max<size_t>(std::ceil(segment.entries.size() * kGrowth), std::ceil(entries_needed / kMaxLoad) + 1);
  std::vector<Entry> entries(capacity);
  for (const Entry& entry : segment.entries) {
    if (entry.class_id < 0) continue;
    size_t slot = SlotOf(Hash(entry.class_id), capacity);
    while (entries[slot].class_id >= 0) slot = slot + 1 == capacity ? 0 : slot + 1;
    entries[slot] = entry;
  }
  segment.entries.swap(entries);
}

void RowTable::ReserveFor(absl::Span<const int64_t> class_ids) {
  for (int64_t class_id : class_ids) ++segments_[SegmentOf(Hash(class_id))].wanted;
  // The counts must be cleared even when an allocation throws.
  struct Clear {
    std::vector<Segment>& segments;
    ~Clear() {
      for (Segment& segment : segments) segment.wanted = 0;
    }
  } clear{segments_};
  for (size_t i = 0; i < segments_.size(); ++i) {
    Segment& segment = segments_[i];
    if (segment.wanted == 0) continue;
    // A first size that differs between segments keeps their later growth apart in time.
    const size_t first = segment.entries.empty() ? 16 + 4 * i / kSegments : 0;
    GrowTo(segment, std::max<size_t>(first, segment.size + segment.wanted));
  }
}

void RowTable::Reserve(int64_t count) {
  const double average = static_cast<double>(size_ + count) / kSegments;
  // Five deviations of the number of entries in a segment: a segment that overflows all the same grows alone.
  const size_t entries = static_cast<size_t>(average + 5 * std::sqrt(average) + 1);
  for (Segment& segment : segments_) GrowTo(segment, entries);
}

void RowTable::Insert(int64_t class_id, uint32_t record) {
  const uint64_t hash = Hash(class_id);
  Segment& segment = segments_[SegmentOf(hash)];
  size_t slot = SlotOf(hash, segment.entries.size());
  while (segment.entries[slot].class_id >= 0) slot = slot + 1 == segment.entries.size() ? 0 : slot + 1;
  segment.entries[slot].class_id = class_id;
  segment.entries[slot].record = record;
  ++segment.size;
  ++size_;
}

// No tombstones: entries behind the gap move up until one lies at its own place or a free one ends the probe.
void RowTable::Erase(int64_t class_id) {
  const uint64_t hash = Hash(class_id);
  Segment& segment = segments_[SegmentOf(hash)];
  std::vector<Entry>& entries = segment.entries;
  const size_t capacity = entries.size();
  const auto next = [capacity](size_t slot) { return slot + 1 == capacity ? 0 : slot + 1; };
  size_t gap = SlotOf(hash, capacity);
  while (entries[gap].class_id != class_id) gap = next(gap);
  for (size_t slot = next(gap); entries[slot].class_id >= 0; slot = next(slot)) {
    const size_t home = SlotOf(Hash(entries[slot].class_id), capacity);
    // Distances along the probe, round the end: from its home an entry may move back as far as the gap.
    const size_t from_home = slot >= home ? slot - home : slot + capacity - home;
    const size_t from_gap = slot >= gap ? slot - gap : slot + capacity - gap;
    if (from_home < from_gap) continue;
    entries[gap] = entries[slot];
    gap = slot;
  }
  entries[gap] = Entry();
  --segment.size;
  --size_;
}

}  // namespace myriad
