#ifndef MYRIAD_SERVER_STORE_ROW_LIMITS_H_
#define MYRIAD_SERVER_STORE_ROW_LIMITS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace myriad {

// How many rows a head may have on a shard, and what they and a step may take of memory. Errors name the head and the numbers.
// Thread-safe as far as `available_memory` is.
class RowLimits {
 public:
  // `max_rows` 0: no limit. `available_memory`: bytes that the process can still take.
  RowLimits(std::string head, int64_t max_rows, std::function<int64_t()> available_memory);

  // RESOURCE_EXHAUSTED if `more_rows` beside `rows` pass the limit of rows.
  absl::Status CheckRows(int64_t more_rows, int64_t rows) const;
  // As RowStore::CheckMemory().
  absl::Status CheckMemory(int64_t bytes, absl::string_view purpose) const;

 private:
  const std::string head_;
  const int64_t max_rows_;
  const std::function<int64_t()> available_memory_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_ROW_LIMITS_H_
