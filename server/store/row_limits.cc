#include "server/store/row_limits.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace myriad {
namespace {

// Left to everything else.
constexpr int64_t kSpareBytes = int64_t{64} << 20;

}  // namespace

RowLimits::RowLimits(std::string head, int64_t max_rows, std::function<int64_t()> available_memory)
    : head_(std::move(head)), max_rows_(max_rows), available_memory_(std::move(available_memory)) {}

absl::Status RowLimits::CheckRows(int64_t more_rows, int64_t rows) const {
  if (max_rows_ > 0 && more_rows > max_rows_ - rows) {
    return absl::ResourceExhaustedError(absl::StrCat("head '", head_, "': ", more_rows, " more rows beside ", rows,
                                                     " would pass the limit of ", max_rows_, " rows (--max-rows)"));
  }
  return absl::OkStatus();
}

absl::Status RowLimits::CheckMemory(int64_t bytes, absl::string_view purpose) const {
  if (bytes <= 0) return absl::OkStatus();
  const int64_t available = available_memory_();
  if (bytes <= available - kSpareBytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("head '", head_, "': ", purpose, " need ", (bytes + kSpareBytes) >> 20,
                                                   " MiB of memory; ", available >> 20, " MiB are available"));
}

}  // namespace myriad
