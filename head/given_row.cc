#include "head/given_row.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "head/type_names.h"

namespace myriad {
namespace {

float LargestFinite(DataType type) {
  switch (type) {
    case DataType::kFloat32: return std::numeric_limits<float>::max();
    case DataType::kBFloat16: return 0x1.FEp127f;
    case DataType::kFloat16: return 65504.0f;
  }
  return 0.0f;
}

// `first`: the number of values[0] in its row.
absl::Status CheckHeld(DataType type, const char* what, int64_t first, const float* values, int64_t count) {
  const float largest = LargestFinite(type);
  for (int64_t i = 0; i < count; ++i) {
    if (std::fabs(values[i]) <= largest) continue;
    const std::string name = absl::StrCat(what, " ", first + i);
    if (!std::isfinite(values[i])) return absl::InvalidArgumentError(absl::StrCat(name, " is not finite"));
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", values[i], "; ", NameOf(type), " holds ", largest, " at most"));
  }
  return absl::OkStatus();
}

// The first slot number that is under a root, or a count: all from there on are.
int64_t FirstNotNegative(const HeadSpec& head) {
  switch (head.slots) {
    case OptimizerKind::kSgd: return SlotNumbers(head);
    case OptimizerKind::kAdamW: return head.embedding_dim;
    case OptimizerKind::kAdagrad: return 0;
  }
  return 0;
}

}  // namespace

absl::Status CheckGivenRow(const HeadSpec& head, const float* weights, const float* slots) {
  if (absl::Status status = CheckHeld(head.weight_dtype, "number", 0, weights, head.embedding_dim); !status.ok()) return status;
  if (slots == nullptr) return absl::OkStatus();
  int64_t first = 0;
  for (const SlotRange& range : SlotRanges(head)) {
    absl::Status status = CheckHeld(range.type, "slot number", first, slots + first, range.count);
    if (!status.ok()) return status;
    first += range.count;
  }
  for (int64_t i = FirstNotNegative(head); i < first; ++i) {
    if (slots[i] >= 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("slot number ", i, " is ", slots[i], "; what ", NameOf(head.slots), " sums up there is not negative"));
  }
  return absl::OkStatus();
}

}  // namespace myriad
