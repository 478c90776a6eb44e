#ifndef MYRIAD_TESTS_TESTING_SERVER_CHANGE_ROWS_H_
#define MYRIAD_TESTS_TESTING_SERVER_CHANGE_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "server/store/row_store.h"

namespace myriad {

// What a step does to its pinned rows: change(row, weights, slots) for each, in order.
inline void ChangeRows(RowStore* store, absl::FunctionRef<void(int64_t row, float* weights, float* slots)> change) {
  RowEditor& rows = store->pinned_rows();
  std::vector<float> scratch(rows.scratch_floats());
  for (int64_t row = 0; row < rows.count(); ++row) {
    rows.Change(row, scratch.data(), [&](float* weights, float* slots) { change(row, weights, slots); });
  }
}

// A step that leaves its rows as they are.
inline void KeepRows(RowStore* store) {
  ChangeRows(store, [](int64_t, float*, float*) {});
}

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_CHANGE_ROWS_H_
