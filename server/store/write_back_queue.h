#ifndef MYRIAD_SERVER_STORE_WRITE_BACK_QUEUE_H_
#define MYRIAD_SERVER_STORE_WRITE_BACK_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/store/cold_store.h"
#include "server/store/huge_pages.h"
#include "server/store/row_key.h"

namespace myriad {

// Changed rows on their way from the slab to the disk: threads of its own write them in batches sorted by key, several at a time, so that
// some are built into files while others are taken into the store. A row is here until the cold store has it, so between the slab, the
// queue and the disk a row that exists is always found. What the disk refuses stays here and is tried again until it is taken. Thread-safe.
class WriteBackQueue {
 public:
  // Batches on their way at a time, and the most bytes of one: records in a row are written as one sorted run.
  static constexpr int kWriters = 3;
  static constexpr int64_t kBatchBytes = ColdStore::kMostBytesWrittenAtOnce / kWriters;

  // Room for `capacity` records. `cold` outlives the queue. A batch waits for more at most for `gather`: a partition comes row by row, and
  // is one run on the disk if it is written whole. Requires: capacity >= 1. Throws std::bad_alloc, and std::system_error if
  // the system starts no more threads.
  WriteBackQueue(ColdStore* cold, int64_t capacity, absl::Duration gather = absl::Seconds(1));
  // Stops after the writes in hand; what is still queued is gone unless Drain() was called.
  ~WriteBackQueue();
  WriteBackQueue(const WriteBackQueue&) = delete;
  WriteBackQueue& operator=(const WriteBackQueue&) = delete;

  // Copies a record; waits while the queue is full. A record of the same key that still waits is older and gives way.
  // Errors: what the disk answers to a write that begins meanwhile, those of ColdStore::WriteEncoded(): the record is not taken.
  absl::Status Add(RowKey key, int64_t step, const std::byte* bytes);
  // The same without waiting: false if the queue is full.
  bool TryAdd(RowKey key, int64_t step, const std::byte* bytes);

  // Copies the newest queued record of a key, if there is one.
  bool Find(RowKey key, std::byte* bytes, int64_t* step) const;

  // Waits until all that was added is in the cold store. Errors: as Add().
  absl::Status Drain();

  struct Statistics {
    int64_t queued = 0;         // Records now.
    double wait_seconds = 0.0;  // That Add() waited for room, in all.
  };
  Statistics statistics() const;

 private:
  struct Slot {
    RowKey key = 0;
    uint32_t value_bytes = 0;
    bool in_hand = false;  // Of a writer: its bytes stay as they are.
  };
  char* ValueOf(uint32_t slot) const { return reinterpret_cast<char*>(values_.data()) + slot * value_bytes_; }
  // Of each writer.
  void Run();
  void Stop();
  // The next batch, whose slots are in hand from then on; false if the queue stops.
  bool Take(std::vector<uint32_t>* batch, std::vector<ColdStore::Encoded>* records) ABSL_LOCKS_EXCLUDED(mu_);
  void Release(absl::Span<const uint32_t> batch) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until `done`, or a write that begins from now on fails.
  void AwaitUnlessItFails(bool (WriteBackQueue::*done)() const) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // False if there is no room.
  bool Put(RowKey key, int64_t step, const std::byte* bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status TryToWrite(absl::Span<const ColdStore::Encoded> records);
  // Writes the records until the disk takes them; false if the queue stops first.
  bool WriteAll(absl::Span<const ColdStore::Encoded> records) ABSL_LOCKS_EXCLUDED(mu_);
  bool MustNotRest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || hurry_; }
  // Wakes the writers that have something to do.
  void WakeWriters() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !free_.empty(); }
  bool MayGather() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || (!gathering_ && !waiting_.empty()); }
  // As much as is written at a time, or somebody waits for it.
  bool HasBatch() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return static_cast<int64_t>(waiting_.size()) >= batch_records_ || draining_ > 0 || stopping_;
  }
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return static_cast<int64_t>(free_.size()) == capacity_; }

  ColdStore* const cold_;
  const int64_t record_bytes_;
  const int64_t value_bytes_;  // Of a whole record: room of a slot.
  const int64_t capacity_;
  const absl::Duration gather_;
  const int64_t batch_records_;  // A writer's part of the queue at most; one part is for what is added meanwhile.
  const HugePages values_;       // Of slot i at i * value_bytes_.

  // Writers in wait have variables of their own: a condition of theirs would be looked at by each Add(), row by row.
  mutable absl::Mutex mu_;
  absl::CondVar may_gather_;
  absl::CondVar has_batch_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mu_);
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mu_);
  // Slots that no writer has, in the order of Add(), but for those whose key has one in hand: they come here once that is written.
  std::vector<uint32_t> waiting_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<RowKey, uint32_t> newest_ ABSL_GUARDED_BY(mu_);  // The slot of a key's newest record.
  bool gathering_ ABSL_GUARDED_BY(mu_) = false;                        // A writer waits for its batch to fill; one at a time.
  int draining_ ABSL_GUARDED_BY(mu_) = 0;                              // Callers of Drain().
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool hurry_ ABSL_GUARDED_BY(mu_) = false;  // The next try is not to wait.
  int64_t begun_ ABSL_GUARDED_BY(mu_) = 0;   // Writes, each try of them, that have begun: the number of the last one.
  // The last one that failed, and with what.
  int64_t failure_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
  double wait_seconds_ ABSL_GUARDED_BY(mu_) = 0.0;
  std::vector<std::thread> writers_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_WRITE_BACK_QUEUE_H_
