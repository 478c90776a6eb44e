#ifndef MYRIAD_TESTS_TESTING_SERVER_ROW_STORE_MODEL_H_
#define MYRIAD_TESTS_TESTING_SERVER_ROW_STORE_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "head/head_spec.h"
#include "server/store/row_codec.h"
#include "server/store/row_store.h"

namespace myriad {

// What a RowStore must hold: a map of records, beside which the store is driven. Each call does the same to both, and compares every row
// that it sees; what differs fails the test that is running. The store may be closed and opened again between calls.
class RowStoreModel {
 public:
  struct StoredRow {
    std::vector<std::byte> record;
    int64_t step = -1;
  };

  explicit RowStoreModel(const HeadSpec& head) : head_(head), codec_(head) {}

  // One step on distinct rows: each moves by a function of the step and the class. `commit` false: given up. Returns what Pin() does;
  // without a pin nothing has happened.
  absl::Status Step(RowStore* store, absl::Span<const int64_t> class_ids, int64_t step, bool commit);
  // Sets rows to random numbers. Returns what Write() does.
  absl::Status Write(RowStore* store, absl::Span<const int64_t> class_ids, std::mt19937_64* random);
  // Returns what StoreVirtualRows() does: all rows exist, with the values that they had.
  absl::Status StoreVirtualRows(RowStore* store);
  // Returns what Read() does.
  absl::Status Read(const RowStore& store, absl::Span<const int64_t> class_ids) const;
  // More classes: those that were there stay as they are.
  void Grow(RowStore* store, int64_t class_count) {
    store->Grow(class_count);
    head_.class_count = class_count;
  }
  // Reads all classes and goes through all keys.
  void CheckAll(const RowStore& store) const;

  const std::map<int64_t, StoredRow>& rows() const { return rows_; }
  const RowCodec& codec() const { return codec_; }

 private:
  std::vector<std::byte> Record(int64_t class_id) const;

  HeadSpec head_;
  const RowCodec codec_;
  std::map<int64_t, StoredRow> rows_;  // That exist.
};

// Distinct ids below `class_count`, in no order. Requires: count <= class_count.
std::vector<int64_t> RandomClassIds(int64_t class_count, int64_t count, std::mt19937_64* random);

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_ROW_STORE_MODEL_H_
