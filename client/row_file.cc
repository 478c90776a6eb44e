#include "client/row_file.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/torch_file.h"
#include "head/stored_numbers.h"
#include "head/type_names.h"

namespace myriad {
namespace {

constexpr char kZipMagic[] = "PK\x03\x04";
constexpr size_t kMostNamesShown = 8;

// Where InsightFace's trainers have kept a rank's part of W: the dict of the run or the module's own, wrapped or not.
constexpr const char* kDicts[] = {"", "state_dict_softmax_fc."};
constexpr const char* kModules[] = {"", "module.", "partial_fc.", "module.partial_fc."};
constexpr const char* kWeights[] = {"weight", "weight_activated"};
constexpr char kMomentum[] = "weight_mom";
constexpr char kWeightSuffix[] = "_weight.pt";
constexpr char kMomentumSuffix[] = "_weight_mom.pt";
// torch.optim.SGD.state_dict(), as the run's dict has it: parameters are numbered in the order in which the optimizer got them.
constexpr char kOptimizerState[] = "state_optimizer.state.";
constexpr char kMomentumBuffer[] = ".momentum_buffer";

absl::optional<DataType> DataTypeOf(TensorType type) {
  switch (type) {
    case TensorType::kF32: return DataType::kFloat32;
    case TensorType::kBF16: return DataType::kBFloat16;
    case TensorType::kF16: return DataType::kFloat16;
    default: return absl::nullopt;
  }
}

std::string ShapeOf(const TensorInfo& info) { return absl::StrCat(TensorTypeName(info.type), " [", absl::StrJoin(info.shape, ", "), "]"); }

absl::Status NoWeights(const std::string& path, const std::string& expected, const std::vector<std::string>& names) {
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kMostNamesShown));
  if (shown.size() < names.size()) shown.push_back(absl::StrCat(names.size() - shown.size(), " more"));
  return absl::InvalidArgumentError(absl::StrCat(path, ": no tensor ", expected, "; there ",
                                                 names.empty() ? "is none" : absl::StrCat("are ", absl::StrJoin(shown, ", "))));
}

absl::Status CheckSlotRows(const RowFile& file) {
  if (!file.slots.has_value() || file.slots->rows() == file.weights.rows()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path, ": ", file.weights.rows(), " rows of weights and ", file.slots->rows(), " of slots"));
}

absl::StatusOr<RowFile> FromSafetensors(const std::string& path, bool with_slots) {
  absl::StatusOr<std::unique_ptr<SafetensorsReader>> opened = SafetensorsReader::Open(path);
  if (!opened.ok()) return opened.status();
  const std::shared_ptr<const SafetensorsReader> reader = *std::move(opened);
  RowFile file;
  file.path = path;
  file.owner = reader;
  absl::StatusOr<TensorView> weights = reader->Find("weights");
  if (!weights.ok()) weights = reader->Find("weight");
  if (!weights.ok()) {
    std::vector<std::string> names;
    for (const TensorInfo& info : reader->tensors()) names.push_back(info.name);
    return NoWeights(path, "'weights'", names);
  }
  absl::StatusOr<RowMatrix> matrix = RowMatrix::Of(*weights, reader, absl::StrCat(path, ": weights"));
  if (!matrix.ok()) return matrix.status();
  file.weights = *std::move(matrix);
  if (const absl::StatusOr<TensorView> ids = reader->Find("class_ids"); ids.ok()) {
    if (ids->info->type != TensorType::kI64 || ids->info->shape != std::vector<int64_t>{file.weights.rows()}) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": class_ids is ", ShapeOf(*ids->info), "; it must be I64 [",
                                                     file.weights.rows(), "], an id a row of weights"));
    }
    file.class_ids = ids->bytes;
  }
  if (const absl::StatusOr<TensorView> slots = reader->Find("slots"); with_slots && slots.ok()) {
    matrix = RowMatrix::Of(*slots, reader, absl::StrCat(path, ": slots"));
    if (!matrix.ok()) return matrix.status();
    file.slots = *std::move(matrix);
    if (const auto optimizer = reader->metadata().find("optimizer"); optimizer != reader->metadata().end()) {
      file.slots_of = OptimizerNamed(optimizer->second);
      if (!file.slots_of.has_value()) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": its slots are of optimizer '", optimizer->second, "', which is not known"));
      }
    }
  }
  if (absl::Status status = CheckSlotRows(file); !status.ok()) return status;
  return file;
}

absl::StatusOr<RowMatrix> TorchMatrix(const std::shared_ptr<const TorchFile>& torch, const std::string& name) {
  const absl::StatusOr<TensorView> view = torch->Find(name);
  if (!view.ok()) return view.status();
  return RowMatrix::Of(*view, torch, name.empty() ? torch->path() : absl::StrCat(torch->path(), ": ", name));
}

absl::StatusOr<std::shared_ptr<const TorchFile>> OpenTorch(const std::string& path) {
  absl::StatusOr<std::unique_ptr<TorchFile>> opened = TorchFile::Open(path);
  if (!opened.ok()) return opened.status();
  return std::shared_ptr<const TorchFile>(*std::move(opened));
}

// The momentum of W in the optimizer's state, or none where it cannot be told from that of the network.
absl::StatusOr<absl::optional<RowMatrix>> MomentumInOptimizer(const std::shared_ptr<const TorchFile>& torch, const RowMatrix& weights) {
  int64_t last = -1;
  std::vector<std::pair<int64_t, RowMatrix>> of_shape;  // By the parameter's number.
  for (const std::string& name : torch->names()) {
    absl::string_view number = name;
    int64_t parameter;
    if (!absl::ConsumePrefix(&number, kOptimizerState) || !absl::ConsumeSuffix(&number, kMomentumBuffer) ||
        !absl::SimpleAtoi(number, &parameter)) {
      continue;
    }
    last = std::max(last, parameter);
    if (torch->InfoOf(name).shape != std::vector<int64_t>{weights.rows(), weights.cols()}) continue;
    absl::StatusOr<RowMatrix> matrix = TorchMatrix(torch, name);
    if (!matrix.ok()) return matrix.status();
    of_shape.emplace_back(parameter, *std::move(matrix));
  }
  if (of_shape.size() != 1 || of_shape.front().first != last) return absl::optional<RowMatrix>();
  return absl::optional<RowMatrix>(std::move(of_shape.front().second));
}

// The momentum of a rank, where the file or one beside it has it.
absl::StatusOr<absl::optional<RowMatrix>> FindMomentum(const std::shared_ptr<const TorchFile>& torch, const std::string& module,
                                                       const RowMatrix& weights) {
  const std::string name = absl::StrCat(module, kMomentum);
  const auto& names = torch->names();
  if (std::find(names.begin(), names.end(), name) != names.end()) return TorchMatrix(torch, name);
  absl::string_view stem = torch->path();
  std::error_code ignored;
  if (absl::ConsumeSuffix(&stem, kWeightSuffix)) {
    const std::string beside = absl::StrCat(stem, kMomentumSuffix);
    if (std::filesystem::exists(beside, ignored)) {
      const absl::StatusOr<std::shared_ptr<const TorchFile>> file = OpenTorch(beside);
      if (!file.ok()) return file.status();
      return TorchMatrix(*file, "");
    }
  }
  return MomentumInOptimizer(torch, weights);
}

absl::StatusOr<RowFile> FromTorch(const std::string& path, bool with_slots) {
  const absl::StatusOr<std::shared_ptr<const TorchFile>> torch = OpenTorch(path);
  if (!torch.ok()) return torch.status();
  const std::vector<std::string>& names = (*torch)->names();
  absl::optional<std::string> module;  // What stands before the weights' name.
  std::string weights;
  const auto look = [&](const std::string& before, const std::string& name) {
    if (module.has_value() || std::find(names.begin(), names.end(), before + name) == names.end()) return;
    module = before;
    weights = before + name;
  };
  look("", "");
  for (const char* dict : kDicts) {
    for (const char* wrapper : kModules) {
      for (const char* name : kWeights) look(absl::StrCat(dict, wrapper), name);
    }
  }
  if (!module.has_value()) return NoWeights(path, "'weight' or 'state_dict_softmax_fc.weight'", names);
  RowFile file;
  file.path = path;
  file.is_rank_checkpoint = true;
  absl::StatusOr<RowMatrix> matrix = TorchMatrix(*torch, weights);
  if (!matrix.ok()) return matrix.status();
  file.weights = *std::move(matrix);
  if (with_slots) {
    absl::StatusOr<absl::optional<RowMatrix>> momentum = FindMomentum(*torch, *module, file.weights);
    if (!momentum.ok()) return momentum.status();
    file.slots = *std::move(momentum);
    file.slots_of = OptimizerKind::kSgd;
  }
  if (absl::Status status = CheckSlotRows(file); !status.ok()) return status;
  return file;
}

}  // namespace

absl::StatusOr<RowMatrix> RowMatrix::Of(const TensorView& view, std::shared_ptr<const void> owner, const std::string& what) {
  const absl::optional<DataType> dtype = DataTypeOf(view.info->type);
  if (!dtype.has_value() || view.info->shape.size() != 2 || view.info->shape[1] < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " is ", ShapeOf(*view.info), "; it must be F32, BF16 or F16 [n, D], a row of D numbers a class"));
  }
  RowMatrix matrix;
  matrix.owner_ = std::move(owner);
  matrix.bytes_ = view.bytes;
  matrix.dtype_ = *dtype;
  matrix.rows_ = view.info->shape[0];
  matrix.cols_ = view.info->shape[1];
  return matrix;
}

void RowMatrix::Copy(int64_t first, int64_t count, float* out) const {
  const int64_t row_bytes = cols_ * BytesOf(dtype_);
  Widen(dtype_, reinterpret_cast<const std::byte*>(bytes_.data() + first * row_bytes), count * cols_, out);
}

int64_t RowFile::ClassIdAt(int64_t row) const {
  int64_t id;
  std::memcpy(&id, class_ids->data() + row * sizeof(id), sizeof(id));
  return id;
}

absl::StatusOr<RowFile> OpenRowFile(const std::string& path, bool with_slots) {
  char magic[sizeof(kZipMagic) - 1] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  // Whatever else, a file that cannot be read too, is told by the reader.
  const bool is_torch = absl::EndsWith(path, ".pt") || absl::EndsWith(path, ".pth") || std::memcmp(magic, kZipMagic, sizeof(magic)) == 0;
  return is_torch ? FromTorch(path, with_slots) : FromSafetensors(path, with_slots);
}

}  // namespace myriad
