#include "server/store/cold_write_plan.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "server/store/row_key.h"

namespace myriad {

ColdWritePlan PlanColdWrite(absl::Span<const ColdStore::Encoded> records, int64_t value_bytes, int64_t run_bytes, int64_t memtable_bytes) {
  std::vector<ColdStore::Encoded> sorted(records.begin(), records.end());
  const auto before = [](const ColdStore::Encoded& a, const ColdStore::Encoded& b) { return a.key < b.key; };
  if (!std::is_sorted(sorted.begin(), sorted.end(), before)) std::sort(sorted.begin(), sorted.end(), before);
  ColdWritePlan plan;
  for (auto begin = sorted.begin(), end = begin; begin != sorted.end(); begin = end) {
    const uint64_t partition = begin->key >> kRowKeyIndexBits;
    end = std::find_if(begin, sorted.end(), [&](const ColdStore::Encoded& record) { return record.key >> kRowKeyIndexBits != partition; });
    const int64_t count = end - begin;
    int64_t stretches = 1;
    for (auto record = begin + 1; record != end; ++record) stretches += record->key != std::prev(record)->key + 1;
    auto& list = count * value_bytes >= std::min(kLeastPartitionBytes, run_bytes) && count >= stretches * kLeastStretch ? plan.stretches
                                                                                                                        : plan.scattered;
    list.insert(list.end(), begin, end);
  }
  if (static_cast<int64_t>(plan.stretches.size()) * value_bytes < run_bytes) {
    plan.stretches.clear();
    plan.scattered = std::move(sorted);
  }
  plan.past_memtables =
      !plan.stretches.empty() || static_cast<int64_t>(plan.scattered.size()) * value_bytes >= std::max(run_bytes, memtable_bytes);
  return plan;
}

}  // namespace myriad
