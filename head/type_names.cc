#include "head/type_names.h"

namespace myriad {

absl::string_view NameOf(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat32: return "float32";
    case DataType::kBFloat16: return "bfloat16";
    case DataType::kFloat16: return "float16";
  }
  return "";
}

absl::string_view NameOf(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd: return "sgd";
    case OptimizerKind::kAdamW: return "adamw";
    case OptimizerKind::kAdagrad: return "adagrad";
  }
  return "";
}

absl::string_view NameOf(IdleUpdate idle_update) { return idle_update == IdleUpdate::kExact ? "exact" : "skip"; }

absl::optional<OptimizerKind> OptimizerNamed(absl::string_view name) {
  for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdamW, OptimizerKind::kAdagrad}) {
    if (NameOf(kind) == name) return kind;
  }
  return absl::nullopt;
}

}  // namespace myriad
