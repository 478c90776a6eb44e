#ifndef MYRIAD_SERVER_STORE_STORED_ROWS_H_
#define MYRIAD_SERVER_STORE_STORED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/store/cold_store.h"
#include "server/store/row_key.h"
#include "server/store/write_back_queue.h"

namespace myriad {

// The rows of a head that have a record outside of the slab: in the write-back queue or in the cold store, looked for in this order. A
// record leaves the queue only once the cold store has it, so one that exists is always found. Thread-safe; a key that is being read must
// not be added meanwhile (it has one home: who reads it has not got it in the slab).
class StoredRows {
 public:
  // `queue_records`: room of the write-back queue, at least 1.
  StoredRows(std::unique_ptr<ColdStore> cold, int64_t queue_records);

  // Reads records of any keys, distinct, in any order. Errors: those of ColdStore::Read().
  absl::Status Read(absl::Span<ColdStore::Target> targets);

  // Sends a record on its way, as the queue does.
  absl::Status Add(RowKey key, int64_t step, const std::byte* bytes) { return queue_->Add(key, step, bytes); }
  bool TryAdd(RowKey key, int64_t step, const std::byte* bytes) { return queue_->TryAdd(key, step, bytes); }
  WriteBackQueue::Statistics queue_statistics() const ABSL_LOCKS_EXCLUDED(mu_);

  int64_t queue_records() const { return queue_records_; }
  // Makes another queue once the one that is there is empty, and gives its memory back. No other call meanwhile but queue_statistics().
  // Errors: those of ColdStore::WriteEncoded(), RESOURCE_EXHAUSTED (memory, threads): the queue stays as it is.
  absl::Status SetQueueRecords(int64_t queue_records) ABSL_LOCKS_EXCLUDED(mu_);

  ColdStore& cold() { return *cold_; }
  const ColdStore& cold() const { return *cold_; }

  // Waits until all that was added is on disk, durable. Errors: those of ColdStore::WriteEncoded() and Flush().
  absl::Status Flush();

 private:
  const std::unique_ptr<ColdStore> cold_;
  mutable absl::Mutex mu_;  // Between SetQueueRecords() and queue_statistics(); all others keep apart from the former.
  std::unique_ptr<WriteBackQueue> queue_;
  int64_t queue_records_;
  double wait_seconds_before_ = 0.0;  // Of queues that are gone.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_STORED_ROWS_H_
