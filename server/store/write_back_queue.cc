#include "server/store/write_back_queue.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "head/prefetch.h"
#include "server/store/cold_record.h"
#include "server/store/start_threads.h"

namespace myriad {
namespace {

// Between two tries at what the disk refuses.
constexpr absl::Duration kRetryPause = absl::Milliseconds(200);

}  // namespace

WriteBackQueue::WriteBackQueue(ColdStore* cold, int64_t capacity, absl::Duration gather)
    : cold_(cold),
      record_bytes_(cold->record_bytes()),
      value_bytes_(kColdHeaderBytes + record_bytes_),
      capacity_(capacity),
      gather_(gather),
      batch_records_(std::max<int64_t>(1, std::min(kBatchBytes / value_bytes_, capacity / (kWriters + 1)))),
      values_(value_bytes_ * capacity),
      slots_(capacity) {
  if (values_.data() == nullptr) throw std::bad_alloc();
  // From here on neither list allocates.
  free_.reserve(capacity);
  waiting_.reserve(capacity);
  for (int64_t slot = capacity - 1; slot >= 0; --slot) free_.push_back(static_cast<uint32_t>(slot));
  newest_.reserve(capacity);
  StartThreads(
      kWriters, [this] { Run(); }, [this] { Stop(); }, &writers_);
}

WriteBackQueue::~WriteBackQueue() { Stop(); }

void WriteBackQueue::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    may_gather_.SignalAll();
    has_batch_.SignalAll();
  }
  for (std::thread& writer : writers_) writer.join();
}

absl::Status WriteBackQueue::Add(RowKey key, int64_t step, const std::byte* bytes) {
  absl::MutexLock lock(&mu_);
  if (Put(key, step, bytes)) return absl::OkStatus();
  const absl::Time start = absl::Now();
  AwaitUnlessItFails(&WriteBackQueue::HasRoom);
  wait_seconds_ += absl::ToDoubleSeconds(absl::Now() - start);
  return Put(key, step, bytes) ? absl::OkStatus() : failed_;
}

bool WriteBackQueue::TryAdd(RowKey key, int64_t step, const std::byte* bytes) {
  absl::MutexLock lock(&mu_);
  return Put(key, step, bytes);
}

bool WriteBackQueue::Put(RowKey key, int64_t step, const std::byte* bytes) {
  const auto found = newest_.find(key);
  const bool older_is_in_hand = found != newest_.end() && slots_[found->second].in_hand;
  const bool is_over_older = found != newest_.end() && !older_is_in_hand;
  if (!is_over_older && free_.empty()) return false;
  const uint32_t slot = is_over_older ? found->second : free_.back();
  const ColdStore::Encoded encoded = cold_->Encode({static_cast<uint64_t>(key), step, bytes}, ValueOf(slot));
  slots_[slot] = {key, static_cast<uint32_t>(encoded.value.size())};
  if (is_over_older) return true;
  newest_[key] = slot;
  free_.pop_back();
  if (!free_.empty()) PrefetchBytes(ValueOf(free_.back()), value_bytes_, /*write=*/true);  // For the next record.
  if (!older_is_in_hand) {
    waiting_.push_back(slot);
    WakeWriters();
  }
  return true;
}

bool WriteBackQueue::Find(RowKey key, std::byte* bytes, int64_t* step) const {
  absl::MutexLock lock(&mu_);
  const auto found = newest_.find(key);
  if (found == newest_.end()) return false;
  std::memcpy(bytes, ValueOf(found->second) + kColdHeaderBytes, record_bytes_);
  *step = StepOfColdValue(ValueOf(found->second));
  return true;
}

absl::Status WriteBackQueue::Drain() {
  absl::MutexLock lock(&mu_);
  ++draining_;
  has_batch_.Signal();
  AwaitUnlessItFails(&WriteBackQueue::IsIdle);
  --draining_;
  return IsIdle() ? absl::OkStatus() : failed_;
}

void WriteBackQueue::AwaitUnlessItFails(bool (WriteBackQueue::*done)() const) {
  // What the disk refused last may be some time ago.
  hurry_ = true;
  const auto over = [this, done, begun = begun_] {
    mu_.AssertHeld();
    return (this->*done)() || failure_ > begun;
  };
  mu_.Await(absl::Condition(&over));
}

WriteBackQueue::Statistics WriteBackQueue::statistics() const {
  absl::MutexLock lock(&mu_);
  return {capacity_ - static_cast<int64_t>(free_.size()), wait_seconds_};
}

void WriteBackQueue::Run() {
  std::vector<uint32_t> batch;
  std::vector<ColdStore::Encoded> records;
  while (Take(&batch, &records)) {
    if (!WriteAll(records)) return;
    Release(batch);
  }
}

bool WriteBackQueue::Take(std::vector<uint32_t>* batch, std::vector<ColdStore::Encoded>* records) {
  absl::MutexLock lock(&mu_);
  while (!MayGather()) may_gather_.Wait(&mu_);
  gathering_ = true;
  const absl::Time deadline = absl::Now() + gather_;
  while (!HasBatch() && !has_batch_.WaitWithDeadline(&mu_, deadline)) continue;
  gathering_ = false;
  if (stopping_) return false;
  batch->assign(waiting_.begin(), waiting_.begin() + std::min<size_t>(batch_records_, waiting_.size()));
  waiting_.erase(waiting_.begin(), waiting_.begin() + batch->size());
  records->clear();
  for (const uint32_t slot : *batch) {
    slots_[slot].in_hand = true;
    records->push_back({static_cast<uint64_t>(slots_[slot].key), {ValueOf(slot), slots_[slot].value_bytes}});
  }
  WakeWriters();
  return true;
}

void WriteBackQueue::Release(absl::Span<const uint32_t> batch) {
  absl::MutexLock lock(&mu_);
  for (const uint32_t slot : batch) {
    const auto newest = newest_.find(slots_[slot].key);
    if (newest->second == slot) {
      newest_.erase(newest);
    } else {
      waiting_.push_back(newest->second);
    }
    free_.push_back(slot);
  }
  WakeWriters();
}

void WriteBackQueue::WakeWriters() {
  if (gathering_) {
    if (HasBatch()) has_batch_.Signal();
  } else if (!waiting_.empty()) {
    may_gather_.Signal();
  }
}

absl::Status WriteBackQueue::TryToWrite(absl::Span<const ColdStore::Encoded> records) {
  try {
    return cold_->WriteEncoded(records);
  } catch (const std::exception& error) {  // For want of memory, or of threads.
    return absl::ResourceExhaustedError(absl::StrCat("writing ", records.size(), " rows: ", error.what()));
  }
}

bool WriteBackQueue::WriteAll(absl::Span<const ColdStore::Encoded> records) {
  while (true) {
    int64_t number = 0;
    {
      absl::MutexLock lock(&mu_);
      number = ++begun_;
      hurry_ = false;
    }
    const absl::Status status = TryToWrite(records);
    if (status.ok()) return true;
    absl::MutexLock lock(&mu_);
    if (number > failure_) {
      failure_ = number;
      failed_ = status;
    }
    mu_.AwaitWithTimeout(absl::Condition(this, &WriteBackQueue::MustNotRest), kRetryPause);
    if (stopping_) return false;
  }
}

}  // namespace myriad
