#ifndef MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_
#define MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "server/store/available_memory.h"
#include "server/store/cold_store.h"
#include "server/store/hot_rows.h"
#include "server/store/idle_rows.h"
#include "server/store/pinned_rows.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/row_key.h"
#include "server/store/row_limits.h"
#include "server/store/row_loader.h"
#include "server/store/row_store.h"
#include "server/store/stored_rows.h"

namespace myriad {

// Rows in three tiers. Virtual: a row that was never written is a function of (seed, class id) and takes nothing. Hot: records in a slab
// (HotRows). Cold: changed rows that leave the slab go through a queue to a ColdStore (StoredRows). Every row has one home, looked for in
// this order: slab, queue, cold store, and the presence bitmap says beforehand whether there is one at all. Without a cold store no row
// ever leaves the slab.
//
// A row that a hint names gets its record in the slab at once and is read into it in the background (RowLoader); whoever needs it before
// it is there waits for it. So a row never has two records, and no record is written by two threads.
class TieredRowStore : public RowStore {
 public:
  struct Options {
    HeadSpec head;
    int shard_index = 0;
    int shard_count = 1;
    int64_t max_rows = 0;              // Rows that exist; 0: no limit.
    int64_t memory_bytes = 0;          // Of the slab and what stands beside its records; 0: no limit but the machine's.
    int64_t queue_records = 0;         // Of the write-back queue. Required with a cold store.
    int64_t sweep_after_steps = 1000;  // A row that is newer in memory than on disk goes to the disk after so many steps.
    // Bytes that the process can still take. Any thread calls it.
    std::function<int64_t()> available_memory = [] { return AvailableMemoryBytes(); };
  };
  // `cold` may be nullptr; else memory_bytes bounds the slab. `presence` holds the rows of the cold store.
  TieredRowStore(const Options& options, std::unique_ptr<ColdStore> cold, std::unique_ptr<PresenceBitmap> presence);
  ~TieredRowStore() override;

  absl::Status Pin(int64_t step, absl::Span<const int64_t> class_ids, PinFigures* figures) override;
  RowEditor& pinned_rows() override { return rows_; }
  absl::Status MoveIdleRows(const SgdStep& constants) override { return idle_.Prepare(rows_.step(), constants); }
  void Commit() override;
  void Unpin() override;
  absl::Status Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists, int64_t* last_step) const override;
  absl::Status Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) override;
  absl::Status StoreVirtualRows() override;
  bool TakesHints() const override { return stored_ != nullptr; }
  void Grow(int64_t class_count) override;
  void Announce(absl::Span<const int64_t> class_ids) override;
  void KeepPartitions(absl::Span<const int32_t> partitions) override;
  absl::Status Flush() override;
  std::vector<int64_t> ScanKeys(int64_t after, int64_t max_keys) const override;
  int64_t ClassOfKey(int64_t key) const override;
  absl::Status Reserve(int64_t row_count) override;
  absl::Status CheckMemory(int64_t bytes, absl::string_view purpose) const override { return limits_.CheckMemory(bytes, purpose); }
  absl::Status CheckRowsFit(const StepRows& rows, std::optional<int64_t> memory_bytes = std::nullopt) const override;
  int64_t BytesOfNewRows(int64_t row_count) const override;
  int64_t row_count() const override { return row_count_.load(std::memory_order_relaxed); }
  // Rows that are in memory or have room there, and those that are elsewhere.
  int64_t reserved_row_count() const override {
    return row_count() - slab_rows_.load(std::memory_order_relaxed) + touched_.load(std::memory_order_relaxed);
  }
  int64_t slab_limit_rows() const override { return slab_limit_.load(std::memory_order_relaxed); }
  RowStoreStatistics statistics() const override ABSL_LOCKS_EXCLUDED(statistics_mu_);

  // From now on with other memory, as Options has it; what is over goes to the disk, and back to the system. Not while rows are pinned.
  // Requires: a cold store or no limit before and after. Errors: as Flush(), RESOURCE_EXHAUSTED (a queue's threads or memory): what could
  // not go stays until the next pin, and the queue until the next Flush() that succeeds.
  absl::Status SetMemory(int64_t memory_bytes, int64_t queue_records);
  // Asked before rows change, by Pin(), Write() and StoreVirtualRows(); its errors are theirs. nullptr: nobody is asked.
  void SetBeforeChange(std::function<absl::Status()> before_change) { before_change_ = std::move(before_change); }
  // The last step that Commit() was called for, or -1.
  int64_t last_committed_step() const { return now_; }
  // What earlier steps did to idle rows, from the cold store that the last Flush() went to. Once, before any row is read.
  // Errors: those of ColdStore::GetNote(), DATA_LOSS.
  absl::Status RestoreIdleRows();
  const PresenceBitmap& presence() const { return *presence_; }
  // For what the head keeps beside its rows. nullptr without one.
  ColdStore* cold() const { return stored_ == nullptr ? nullptr : &stored_->cold(); }

 private:
  bool IsStored(int64_t class_id) const { return stored_ != nullptr && presence_->Test(KeyOf(class_id)); }
  RowKey KeyOf(int64_t class_id) const { return KeyOfPlace(places_.Locate(class_id)); }
  // Of a record: the step that left the row so, whether or not the record says it yet.
  int64_t StepOf(int64_t step) const { return ColdStore::IsShort(step) ? ColdStore::StepOf(step) : idle_.StepOf(step); }
  // A record's row as it stands; `scratch` takes the slots where `slots` is nullptr and they are needed.
  void Decode(int64_t class_id, int64_t step, const std::byte* record, float* weights, float* slots, std::vector<float>* scratch) const;

  // The disk has an older row, or a longer record than it needs.
  bool MustBeWritten(uint32_t record) const;
  void SettleIfDue(uint32_t record);
  // On its way to the disk, as WriteBackQueue::Add() and TryAdd() have it.
  absl::Status WriteBack(uint32_t record);
  bool TryWriteBack(uint32_t record);
  // Its record serves others from now on, once what is new in it is on its way to the disk. They wait as the two above do.
  absl::Status Evict(uint32_t record);
  bool TryEvict(uint32_t record);
  void LetGo(uint32_t record);

  absl::Status BeforeChange() const { return before_change_ == nullptr ? absl::OkStatus() : before_change_(); }
  // Gives each row a record (pinned_); those that were not in the slab are not in the table yet. `load`: reads stored rows. After an error
  // nothing is pinned.
  absl::Status Acquire(absl::Span<const int64_t> class_ids, bool load, PinFigures* figures);
  // Records that are beyond the limit go to the disk, and their memory back to the system.
  absl::Status ComeDownToLimit();
  // Another queue, where it is to have other room.
  absl::Status GiveQueueItsRoom();
  // Room for so many more records, if need be of rows that were to stay.
  absl::Status MakeRoom(int64_t records);
  // Waits until it has been read; what such waits and those for room in the queue came to.
  void AwaitBatch(const LoadBatch& batch);
  double DiskWaitSeconds() const;
  int64_t RowBytes() const { return codec_.record_bytes() + HotRows::kBytesBesideRecord; }
  // Waits until the rows of the pin that are on their way are there; those that could not be read are read again as misses.
  void AwaitLoading();
  // An error of the cold store that is about a record names its class.
  absl::Status NameClass(const absl::Status& status) const;
  absl::Status ReadStored(absl::Span<ColdStore::Target> targets) const;
  absl::Status LoadMisses();
  // Rows that were not in the slab are from now on; virtual ones exist.
  void Insert(bool with_virtual);
  // Records of rows that are not in the table go back.
  void EndPin();

  // Takes records for rows that are on disk and begins to read them, as far as there is room. True if all are on their way.
  bool StartLoading(absl::Span<const int64_t> class_ids, bool run);
  // Rows of batches that have ended are as good as any from now on, or gone from the slab.
  void SettleLoaded();
  void Settle(const LoadBatch& batch);
  void LoadKept();
  void LetPartitionGo(int32_t partition);
  // Calls visit(record) for each row of a partition that is in the slab, in the order of keys.
  template <typename Visitor>
  void ForEachHot(int32_t partition, Visitor visit);
  void Sweep();
  void SetSlabLimit();
  void UpdateCounts() ABSL_LOCKS_EXCLUDED(statistics_mu_);

  const Options options_;
  const Partitions places_;  // Of the classes: growing does not change them, so any thread may ask.
  Partitions partitions_;    // With their sizes of now. The strand's.
  const RowCodec codec_;
  const RowLimits limits_;
  const int64_t dim_;
  const int64_t slot_floats_;
  const std::unique_ptr<PresenceBitmap> presence_;
  std::function<absl::Status()> before_change_;
  IdleRows idle_;                             // Compactions of the cold store ask it.
  const std::unique_ptr<StoredRows> stored_;  // nullptr without a cold store.
  HotRows hot_;
  std::vector<std::shared_ptr<LoadBatch>> loading_;  // In the order of their start.
  std::vector<int32_t> kept_;                        // Partitions that are to stay, ascending,
  std::vector<bool> is_kept_;                        // the same by partition,
  std::deque<int32_t> coming_;                       // and those of them that are yet to be read.
  std::atomic<int64_t> memory_bytes_;                // As TieredRowStore::Options has it, or SetMemory();
  int64_t queue_records_;                            // so has this.
  int64_t now_ = -1;                                 // The last step that was committed.
  double load_wait_seconds_ = 0.0;                   // Of AwaitBatch().
  int64_t swept_ = 0;                                // Where the sweep goes on.
  std::unique_ptr<RowLoader> loader_;                // Goes first: it writes to records.

  // The pin. Vectors keep their memory from step to step.
  std::vector<int64_t> pinned_ids_;
  std::vector<uint32_t> pinned_;  // Records, in the order of the class ids.
  std::vector<uint32_t> misses_;  // Indices of stored rows that the slab did not have.
  std::vector<uint32_t> virtual_;
  std::vector<uint32_t> awaited_;  // Of rows that are on their way into the slab.
  PinnedRows rows_;                // The pinned records as the step sees them.

  RowStoreStatistics counts_;  // The strand's own.
  std::atomic<int64_t> row_count_{0};
  std::atomic<int64_t> slab_rows_{0};
  std::atomic<int64_t> slab_limit_{0};
  std::atomic<int64_t> touched_{0};  // Records whose memory the process has.
  mutable absl::Mutex statistics_mu_;
  RowStoreStatistics published_ ABSL_GUARDED_BY(statistics_mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_
