#include "server/store/row_loader.h"

#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace myriad {

RowLoader::RowLoader(StoredRows* rows) : rows_(rows) {
  batches_.reserve(kMostTogether);  // From here on it does not allocate.
  thread_ = std::thread([this] { Run(); });
}

RowLoader::~RowLoader() {
  std::deque<std::shared_ptr<LoadBatch>> left;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    left.swap(singles_);
    left.insert(left.end(), runs_.begin(), runs_.end());
    runs_.clear();
  }
  for (const std::shared_ptr<LoadBatch>& batch : left) {
    batch->status = absl::CancelledError("the store is closed");
    batch->done.Notify();
  }
  thread_.join();
}

void RowLoader::Start(std::shared_ptr<LoadBatch> batch) {
  absl::MutexLock lock(&mu_);
  try {
    (batch->run ? runs_ : singles_).push_back(batch);
  } catch (const std::bad_alloc&) {
    batch->status = absl::ResourceExhaustedError("no memory to read ahead");
    batch->done.Notify();
  }
}

bool RowLoader::Next() {
  batches_.clear();
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(this, &RowLoader::HasWork));
  if (stopping_) return false;
  std::deque<std::shared_ptr<LoadBatch>>& queue = singles_.empty() ? runs_ : singles_;
  const int64_t most_rows = &queue == &runs_ ? kBytesTogether / rows_->cold().record_bytes() : 0;
  int64_t rows = 0;
  do {
    rows += static_cast<int64_t>(queue.front()->targets.size());
    batches_.push_back(std::move(queue.front()));
    queue.pop_front();
  } while (!queue.empty() && batches_.size() < kMostTogether && rows + static_cast<int64_t>(queue.front()->targets.size()) <= most_rows);
  return true;
}

absl::Status RowLoader::Read(absl::Span<ColdStore::Target> targets) const {
  try {
    return rows_->Read(targets);
  } catch (const std::exception& error) {  // For want of memory.
    return absl::ResourceExhaustedError(absl::StrCat("reading ", targets.size(), " rows: ", error.what()));
  }
}

bool RowLoader::ReadTogether() const {
  std::vector<ColdStore::Target> targets;
  try {
    for (const std::shared_ptr<LoadBatch>& batch : batches_) targets.insert(targets.end(), batch->targets.begin(), batch->targets.end());
  } catch (const std::bad_alloc&) {
    return false;
  }
  if (!Read(absl::MakeSpan(targets)).ok()) return false;
  auto target = targets.cbegin();
  for (const std::shared_ptr<LoadBatch>& batch : batches_) {
    for (ColdStore::Target& own : batch->targets) own.step = (target++)->step;
  }
  return true;
}

void RowLoader::Run() {
  while (Next()) {
    // What is wrong with one batch is not the others' matter.
    if (batches_.size() == 1 || !ReadTogether()) {
      for (const std::shared_ptr<LoadBatch>& batch : batches_) batch->status = Read(absl::MakeSpan(batch->targets));
    }
    for (const std::shared_ptr<LoadBatch>& batch : batches_) batch->done.Notify();
  }
}

}  // namespace myriad
