#include "server/store/stored_rows.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {

StoredRows::StoredRows(std::unique_ptr<ColdStore> cold, int64_t record_bytes, int64_t queue_records)
    : cold_(std::move(cold)), queue_(cold_.get(), record_bytes, queue_records) {}

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

absl::Status StoredRows::ReadRun(absl::Span<ColdStore::Target> targets) {
  if (targets.empty()) return absl::OkStatus();
  // The queue first: what it has may be on disk, older, as well.
  std::vector<ColdStore::Target*> on_disk;
  on_disk.reserve(targets.size());
  for (ColdStore::Target& target : targets) {
    if (!queue_.Find(static_cast<RowKey>(target.key), target.bytes, &target.step)) on_disk.push_back(&target);
  }
  if (on_disk.empty()) return absl::OkStatus();
  size_t next = 0;
  const absl::Status status = cold_->Scan(on_disk.front()->key, on_disk.back()->key + 1, [&](const ColdStore::Record& record) {
    if (next < on_disk.size() && record.key == on_disk[next]->key) {
      std::memcpy(on_disk[next]->bytes, record.bytes, queue_.record_bytes());
      on_disk[next++]->step = record.step;
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  if (next == on_disk.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("record ", on_disk[next]->key, " is missing"));
}

absl::Status StoredRows::Flush() {
  if (absl::Status status = queue_.Drain(); !status.ok()) return status;
  return cold_->Flush();
}

}  // namespace myriad
