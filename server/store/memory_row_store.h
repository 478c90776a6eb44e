#ifndef MYRIAD_SERVER_STORE_MEMORY_ROW_STORE_H_
#define MYRIAD_SERVER_STORE_MEMORY_ROW_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "head/partitions.h"
#include "server/store/available_memory.h"
#include "server/store/row_key.h"
#include "server/store/row_limits.h"
#include "server/store/row_store.h"
#include "server/store/row_table.h"
#include "server/store/slab.h"

namespace myriad {

// All rows that exist, in memory. A row costs its record ((1 + slots) * D floats), 8 bytes for its step and 16 to 20 in the table; virtual
// rows cost nothing, at any N. Virtual values are generated straight into the record that the row will have, by all ATen threads.
class MemoryRowStore : public RowStore {
 public:
  struct Options {
    HeadSpec head;
    int64_t max_rows = 0;  // 0: no limit but memory.
    // Bytes that the process can still take. Any thread calls it.
    std::function<int64_t()> available_memory = [] { return AvailableMemoryBytes(); };
  };
  explicit MemoryRowStore(const Options& options);

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
  int64_t reserved_row_count() const override { return reserved_.load(std::memory_order_relaxed); }

 private:
  // Looks up the rows and gives records to those that are absent, without inserting them. Fills the pinned_ vectors.
  absl::Status Acquire(absl::Span<const int64_t> class_ids);
  // The new rows of the pin exist from now on; the pin is over.
  void InsertNew();
  void ForgetPin();
  void UpdateCounts();

  const HeadSpec head_;
  const Partitions partitions_;
  const RowLimits limits_;
  const int64_t dim_;
  Slab slab_;
  RowTable table_;
  // The pin. Vectors keep their memory from step to step.
  std::vector<uint32_t> pinned_;  // Records, in the order of the class ids.
  std::vector<int64_t> new_ids_;  // Class ids that were virtual, and which of pinned_ they are.
  std::vector<uint32_t> new_indices_;
  std::vector<float*> weights_;
  std::vector<float*> slots_;
  std::atomic<int64_t> row_count_{0};
  std::atomic<int64_t> reserved_{0};
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_MEMORY_ROW_STORE_H_
