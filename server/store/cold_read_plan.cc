#include "server/store/cold_read_plan.h"

#include <algorithm>

namespace myriad {
namespace {

// Most that a range reads between two targets in vain, and the least that one is worth.
constexpr int64_t kGapBytes = 8 << 10;
constexpr int64_t kLeastRangeBytes = 32 << 10;

}  // namespace

std::vector<ColdReadPart> PlanColdRead(absl::Span<const ColdStore::Target> targets, int64_t value_bytes, int64_t most_together) {
  const int64_t count = static_cast<int64_t>(targets.size());
  const uint64_t most_step = most_together > 0 ? 1 + kGapBytes / value_bytes : 0;
  const uint64_t most_span = std::max<int64_t>(1, kColdRangeBytes / value_bytes);
  std::vector<ColdReadPart> parts;
  int64_t pending = 0;  // First of the targets that no part has yet.
  const auto add_points = [&](int64_t end) {
    for (; pending < end; pending = parts.back().end) parts.push_back({pending, std::min(end, pending + kColdRecordsApart), false});
  };
  for (int64_t begin = 0, end = 0; begin < count; begin = end) {
    for (end = begin + 1; end < count && end - begin < most_together && targets[end].key - targets[end - 1].key <= most_step &&
                          targets[end].key - targets[begin].key < most_span;) {
      ++end;
    }
    if (end - begin < 2 || (end - begin) * value_bytes < kLeastRangeBytes) continue;
    add_points(begin);
    parts.push_back({begin, end, true});
    pending = end;
  }
  add_points(count);
  return parts;
}

}  // namespace myriad
