#ifndef MYRIAD_SERVER_STORE_ROW_LOADER_H_
#define MYRIAD_SERVER_STORE_ROW_LOADER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/store/cold_store.h"
#include "server/store/stored_rows.h"

namespace myriad {

// Rows that are being read into their records of the slab.
struct LoadBatch {
  std::vector<ColdStore::Target> targets;  // Where each goes; steps are filled in.
  std::vector<uint32_t> records;           // The same records by number.
  bool run = false;                        // Many rows that lie close together, and no step waits for them.
  absl::Notification done;
  absl::Status status;  // Once `done`. Not OK: no target counts.
};

// Reads batches by a thread of its own, so that rows are in memory before a step asks for them. Single rows go before runs: those of a
// coming step are few and needed soon, a run is long and is not. Short runs are read together: one alone does not keep the disk busy.
// Thread-safe.
class RowLoader {
 public:
  // Runs that wait are read together up to so many bytes, about a partition at ten million rows.
  static constexpr int64_t kBytesTogether = int64_t{4} << 20;

  // `rows` outlives the loader.
  explicit RowLoader(StoredRows* rows);
  // Batches that were not begun end with CANCELLED; waits for the one in hand.
  ~RowLoader();
  RowLoader(const RowLoader&) = delete;
  RowLoader& operator=(const RowLoader&) = delete;

  // The targets' memory is the loader's until `done`.
  void Start(std::shared_ptr<LoadBatch> batch);

 private:
  static constexpr size_t kMostTogether = 64;

  void Run();
  // Sets what is read next: a batch of single rows, or one or more runs. False if the loader stops.
  bool Next() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Read(absl::Span<ColdStore::Target> targets) const;
  // By one read; false, with nothing to go by, if anything is wrong with any of it.
  bool ReadTogether() const;
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || !singles_.empty() || !runs_.empty(); }

  StoredRows* const rows_;
  absl::Mutex mu_;
  std::deque<std::shared_ptr<LoadBatch>> singles_ ABSL_GUARDED_BY(mu_);
  std::deque<std::shared_ptr<LoadBatch>> runs_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::shared_ptr<LoadBatch>> batches_;  // In hand; the thread's.
  std::thread thread_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_LOADER_H_
