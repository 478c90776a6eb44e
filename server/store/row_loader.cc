#include "server/store/row_loader.h"

#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace myriad {

RowLoader::RowLoader(StoredRows* rows) : rows_(rows), thread_([this] { Run(); }) {}

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

void RowLoader::Run() {
  while (true) {
    std::shared_ptr<LoadBatch> batch;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &RowLoader::HasWork));
      if (stopping_) return;
      std::deque<std::shared_ptr<LoadBatch>>& queue = singles_.empty() ? runs_ : singles_;
      batch = std::move(queue.front());
      queue.pop_front();
    }
    const absl::Span<ColdStore::Target> targets = absl::MakeSpan(batch->targets);
    try {
      batch->status = rows_->Read(targets);
    } catch (const std::exception& error) {  // For want of memory.
      batch->status = absl::ResourceExhaustedError(absl::StrCat("reading ", targets.size(), " rows: ", error.what()));
    }
    batch->done.Notify();
  }
}

}  // namespace myriad
