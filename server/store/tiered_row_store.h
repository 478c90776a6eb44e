#ifndef MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_
#define MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "server/store/available_memory.h"
#include "server/store/cold_store.h"
#include "server/store/presence_bitmap.h"
#include "server/store/row_codec.h"
#include "server/store/row_key.h"
#include "server/store/row_limits.h"
#include "server/store/row_store.h"
#include "server/store/row_table.h"
#include "server/store/slab.h"
#include "server/store/write_back_queue.h"

namespace myriad {

// Rows in three tiers. Virtual: a row that was never written is a function of (seed, class id) and takes nothing. Hot: records in a slab,
// found through a table; a clock gives the records of rows that were not used lately to others. Cold: changed rows that leave the slab go
// through a queue to a ColdStore. Every row has one home, looked for in this order: slab, queue, cold store, and the presence bitmap
// says beforehand whether there is one at all. Without a cold store no row ever leaves the slab.
//
// A step works on float32 rows: on the records themselves where the head's dtypes are float32, else on a widened copy, rounded once by
// Commit().
class TieredRowStore : public RowStore {
 public:
  struct Options {
    HeadSpec head;
    int shard_index = 0;
    int shard_count = 1;
    int64_t max_rows = 0;       // Rows that exist; 0: no limit.
    int64_t slab_records = 0;   // Records in the slab at most; 0: no limit but memory. Required with a cold store.
    int64_t queue_records = 0;  // Of the write-back queue. Required with a cold store.
    // Bytes that the process can still take. Any thread calls it.
    std::function<int64_t()> available_memory = [] { return AvailableMemoryBytes(); };
  };
  // `cold` may be nullptr. `presence` holds the rows of the cold store.
  TieredRowStore(const Options& options, std::unique_ptr<ColdStore> cold, std::unique_ptr<PresenceBitmap> presence);
  ~TieredRowStore() override;

  absl::Status Pin(absl::Span<const int64_t> class_ids, PinnedRows* rows) override;
  void Commit(int64_t step) override;
  void Unpin() override;
  absl::Status Read(absl::Span<const int64_t> class_ids, float* weights, float* slots, uint8_t* exists, int64_t* last_step) const override;
  absl::Status Write(absl::Span<const int64_t> class_ids, const float* weights, const float* slots) override;
  std::vector<int64_t> ScanKeys(int64_t after, int64_t max_keys) const override;
  int64_t ClassOfKey(int64_t key) const override;
  absl::Status Reserve(int64_t row_count) override;
  absl::Status CheckMemory(int64_t bytes, absl::string_view purpose) const override { return limits_.CheckMemory(bytes, purpose); }
  int64_t BytesOfNewRows(int64_t row_count) const override;
  int64_t row_count() const override { return row_count_.load(std::memory_order_relaxed); }
  // Rows that are in memory or have room there, and those that are elsewhere.
  int64_t reserved_row_count() const override {
    return row_count() - slab_rows_.load(std::memory_order_relaxed) + touched_.load(std::memory_order_relaxed);
  }

  // Every row that exists durable in the cold store; all stay in the slab as well. OK without a cold store: there is nothing to do.
  // Requires: no pin. Errors: those of ColdStore.
  absl::Status Flush();
  const PresenceBitmap& presence() const { return *presence_; }

  struct Statistics {
    int64_t hits = 0;     // Rows of steps that the slab had.
    int64_t misses = 0;   // That came from the queue or the disk.
    int64_t created = 0;  // That were virtual.
    int64_t evicted = 0;
    double disk_wait_seconds = 0.0;  // That Pin() waited for reads.
    int64_t slab_rows = 0;
    int64_t dirty_rows = 0;
    WriteBackQueue::Statistics queue;
    ColdStore::Statistics cold;
  };
  Statistics statistics() const;

 private:
  // What the store knows of a record beside its bytes.
  enum Flag : uint8_t { kDirty = 1, kUsed = 2, kPinned = 4 };
  // Where the row of a pin comes from.
  enum class Origin : uint8_t { kSlab, kStored, kVirtual };

  std::byte* RecordAt(uint32_t record) const { return reinterpret_cast<std::byte*>(slab_.At(record)); }
  RowKey KeyOf(int64_t class_id) const { return KeyOfPlace(partitions_.Locate(class_id)); }
  // Gives each row a record (pinned_, origins_); those that were not in the slab are not in the table yet. `load`: reads stored rows.
  absl::Status Acquire(absl::Span<const int64_t> class_ids, bool load);
  absl::Status MakeRoom(int64_t records);
  absl::Status Evict(int64_t records);
  absl::Status ReadElsewhere(absl::Span<ColdStore::Target> targets) const;
  absl::Status LoadStored();
  void ReturnRecords();
  // Rows that were not in the slab are from now on; virtual ones exist.
  void Insert(bool with_virtual);
  // The pinned rows are of `step`, and the disk does not have them.
  void MarkChanged(int64_t step);
  void EndPin();
  void UpdateCounts();

  const Options options_;
  const Partitions partitions_;
  const RowCodec codec_;
  const RowLimits limits_;
  const int64_t dim_;
  const int64_t slot_floats_;
  const std::unique_ptr<ColdStore> cold_;
  const std::unique_ptr<PresenceBitmap> presence_;
  std::unique_ptr<WriteBackQueue> queue_;
  Slab slab_;
  RowTable table_;
  // Of each record that was ever taken.
  std::vector<int64_t> class_of_;
  std::vector<uint8_t> flags_;
  uint32_t hand_ = 0;  // Of the clock.

  // The pin. Vectors keep their memory from step to step.
  std::vector<int64_t> pinned_ids_;
  std::vector<uint32_t> pinned_;  // Records, in the order of the class ids.
  std::vector<Origin> origins_;
  std::vector<uint32_t> stored_;  // Indices of rows that the slab did not have.
  std::vector<uint32_t> virtual_;
  std::vector<float> widened_;  // n x (1 + slots) x D, unless the codec works in place.
  std::vector<float*> weights_;
  std::vector<float*> slots_;

  Statistics statistics_;
  std::atomic<int64_t> row_count_{0};
  std::atomic<int64_t> slab_rows_{0};
  std::atomic<int64_t> touched_{0};  // Records whose memory the process has.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_TIERED_ROW_STORE_H_
