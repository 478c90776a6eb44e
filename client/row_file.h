#ifndef MYRIAD_CLIENT_ROW_FILE_H_
#define MYRIAD_CLIENT_ROW_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/safetensors.h"
#include "head/head_spec.h"

namespace myriad {

// n rows of numbers in a file, through a memory map: what is copied is what is asked for. Thread-safe (immutable).
class RowMatrix {
 public:
  // Of a tensor F32, BF16 or F16 of shape [n, cols] with cols > 0; `owner` keeps its bytes. Errors: INVALID_ARGUMENT, starting with `what`.
  static absl::StatusOr<RowMatrix> Of(const TensorView& view, std::shared_ptr<const void> owner, const std::string& what);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  DataType dtype() const { return dtype_; }
  // Widened to float32, exactly: `count` x cols numbers. Requires: first + count <= rows().
  void Copy(int64_t first, int64_t count, float* out) const;

 private:
  std::shared_ptr<const void> owner_;
  absl::Span<const char> bytes_;
  DataType dtype_ = DataType::kFloat32;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

// Rows of a head as some program keeps them.
struct RowFile {
  std::string path;
  RowMatrix weights;
  absl::optional<RowMatrix> slots;                   // As many rows.
  absl::optional<OptimizerKind> slots_of;            // Whose slots they are, where the file says.
  absl::optional<absl::Span<const char>> class_ids;  // int64, as many; perhaps not aligned.
  // A safetensors file carries its class ids, or none; a file of torch.save() is one rank's part of a Partial FC checkpoint.
  bool is_rank_checkpoint = false;
  std::shared_ptr<const void> owner;  // Of class_ids.

  // Requires: class_ids.
  int64_t ClassIdAt(int64_t row) const;
};

// Opens either kind, told by its first bytes.
// * safetensors: `weights` or `weight` [n, D], perhaps `class_ids` I64 [n] and `slots` [n, any]; metadata `optimizer` says whose slots.
// * torch.save(): a tensor [n, D], or a dict in which `weight` (InsightFace's names: also `weight_activated`, after `module.` or
//   `partial_fc.`, in `state_dict_softmax_fc`) is one. Its slots, SGD's momentum, are `weight_mom` beside it; or, of a file
//   rank_R_softmax_weight.pt, the tensor in rank_R_softmax_weight_mom.pt; or the momentum that `state_optimizer` has for its last
//   parameter, if that and no other has the shape of the weights: the trainers give W to the optimizer last. Checksums are verified.
// Slots are looked for where `with_slots` asks. Errors: as SafetensorsReader::Open and TorchFile::Open; INVALID_ARGUMENT naming the path:
// there are no such tensors (those that there are are named), or their shapes or types do not fit.
absl::StatusOr<RowFile> OpenRowFile(const std::string& path, bool with_slots);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_ROW_FILE_H_
