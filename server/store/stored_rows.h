#ifndef MYRIAD_SERVER_STORE_STORED_ROWS_H_
#define MYRIAD_SERVER_STORE_STORED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
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

  // On the way to the disk.
  WriteBackQueue& queue() { return queue_; }
  ColdStore& cold() { return *cold_; }
  const ColdStore& cold() const { return *cold_; }

  // Waits until all that was added is on disk, durable. Errors: those of ColdStore::WriteEncoded() and Flush().
  absl::Status Flush();

 private:
  const std::unique_ptr<ColdStore> cold_;
  WriteBackQueue queue_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_STORED_ROWS_H_
