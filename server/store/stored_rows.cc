#include "server/store/stored_rows.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace myriad {

StoredRows::StoredRows(std::unique_ptr<ColdStore> cold, int64_t queue_records)
    : cold_(std::move(cold)), queue_(cold_.get(), queue_records) {}

absl::Status StoredRows::Read(absl::Span<ColdStore::Target> targets) {
  std::vector<ColdStore::Target*> on_disk;
  on_disk.reserve(targets.size());
  for (ColdStore::Target& target : targets) {
    if (!queue_.Find(static_cast<RowKey>(target.key), target.bytes, &target.step)) on_disk.push_back(&target);
  }
  std::sort(on_disk.begin(), on_disk.end(), [](const ColdStore::Target* a, const ColdStore::Target* b) { return a->key < b->key; });
  std::vector<ColdStore::Target> sorted;
  sorted.reserve(on_disk.size());
  for (const ColdStore::Target* target : on_disk) sorted.push_back(*target);
  if (absl::Status status = cold_->Read(absl::MakeSpan(sorted)); !status.ok()) return status;
  for (size_t i = 0; i < sorted.size(); ++i) on_disk[i]->step = sorted[i].step;
  return absl::OkStatus();
}

absl::Status StoredRows::Flush() {
  if (absl::Status status = queue_.Drain(); !status.ok()) return status;
  return cold_->Flush();
}

}  // namespace myriad
