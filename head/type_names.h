#ifndef MYRIAD_HEAD_TYPE_NAMES_H_
#define MYRIAD_HEAD_TYPE_NAMES_H_

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "head/head_spec.h"

namespace myriad {

// The words for them in output, flags and files: "float32", "bfloat16", "float16"; "sgd", "adamw", "adagrad"; "skip", "exact".
absl::string_view NameOf(DataType dtype);
absl::string_view NameOf(OptimizerKind kind);
absl::string_view NameOf(IdleUpdate idle_update);
// The optimizer of that name, or none.
absl::optional<OptimizerKind> OptimizerNamed(absl::string_view name);

}  // namespace myriad

#endif  // MYRIAD_HEAD_TYPE_NAMES_H_
