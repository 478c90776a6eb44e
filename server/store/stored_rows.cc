#include "server/store/stored_rows.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace myriad {

StoredRows::StoredRows(std::unique_ptr<ColdStore> cold, int64_t queue_records)
    : cold_(std::move(cold)), queue_(std::make_unique<WriteBackQueue>(cold_.get(), queue_records)), queue_records_(queue_records) {}

absl::Status StoredRows::Read(absl::Span<ColdStore::Target> targets) {
  std::vector<ColdStore::Target*> on_disk;
  on_disk.reserve(targets.size());
  for (ColdStore::Target& target : targets) {
    if (!queue_->Find(static_cast<RowKey>(target.key), target.bytes, &target.step)) on_disk.push_back(&target);
  }
  std::sort(on_disk.begin(), on_disk.end(), [](const ColdStore::Target* a, const ColdStore::Target* b) { return a->key < b->key; });
  std::vector<ColdStore::Target> sorted;
  sorted.reserve(on_disk.size());
  for (const ColdStore::Target* target : on_disk) sorted.push_back(*target);
  if (absl::Status status = cold_->Read(absl::MakeSpan(sorted)); !status.ok()) return status;
  for (size_t i = 0; i < sorted.size(); ++i) on_disk[i]->step = sorted[i].step;
  return absl::OkStatus();
}

WriteBackQueue::Statistics StoredRows::queue_statistics() const {
  absl::MutexLock lock(&mu_);
  WriteBackQueue::Statistics statistics = queue_->statistics();
  statistics.wait_seconds += wait_seconds_before_;
  return statistics;
}

absl::Status StoredRows::SetQueueRecords(int64_t queue_records) {
  if (absl::Status status = queue_->Drain(); !status.ok()) return status;
  std::unique_ptr<WriteBackQueue> queue;
  try {
    queue = std::make_unique<WriteBackQueue>(cold_.get(), queue_records);
  } catch (const std::exception& error) {
    return absl::ResourceExhaustedError(absl::StrCat("a write-back queue of ", queue_records, " rows: ", error.what()));
  }
  // The old queue goes once nobody waits for it.
  absl::MutexLock lock(&mu_);
  wait_seconds_before_ += queue_->statistics().wait_seconds;
  queue_.swap(queue);
  queue_records_ = queue_records;
  return absl::OkStatus();
}

absl::Status StoredRows::Flush() {
  if (absl::Status status = queue_->Drain(); !status.ok()) return status;
  return cold_->Flush();
}

}  // namespace myriad
