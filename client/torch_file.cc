#include "client/torch_file.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/pickle_reader.h"

namespace myriad {
namespace {

constexpr char kPickleName[] = "data.pkl";
constexpr int64_t kLargestPickle = 16 << 20;  // Structure alone: a network's takes some 100 KB.
constexpr int kDeepestDict = 8;
// No checkpoint has as many; a pickle that puts one dict into another again and again would.
constexpr size_t kLongestKey = 256;
constexpr size_t kMostTensors = 1 << 14;
constexpr int64_t kMostVisits = 1 << 20;

struct StorageType {
  const char* name;
  TensorType type;
};
constexpr StorageType kStorageTypes[] = {
    {"torch FloatStorage", TensorType::kF32},  {"torch BFloat16Storage", TensorType::kBF16}, {"torch HalfStorage", TensorType::kF16},
    {"torch DoubleStorage", TensorType::kF64}, {"torch LongStorage", TensorType::kI64},      {"torch IntStorage", TensorType::kI32},
    {"torch ShortStorage", TensorType::kI16},  {"torch CharStorage", TensorType::kI8},       {"torch ByteStorage", TensorType::kU8},
    {"torch BoolStorage", TensorType::kBool},
};

}  // namespace

// Walks the dicts of a pickle and puts the tensors into the file's table.
class TorchTensorFinder {
 public:
  TorchTensorFinder(const Pickle& pickle, const std::string& prefix, TorchFile* file) : pickle_(pickle), prefix_(prefix), file_(file) {}

  absl::Status Find() { return Visit(pickle_.root(), "", 0); }

 private:
  using Kind = Pickle::Kind;
  using Tensor = TorchFile::Tensor;

  const Pickle::Node& node(Pickle::Index index) const { return pickle_.node(index); }
  bool IsName(Pickle::Index index, absl::string_view text) const { return node(index).kind == Kind::kName && node(index).text == text; }

  absl::Status Visit(Pickle::Index index, const std::string& name, int depth) {
    const Pickle::Node& value = node(index);
    if (value.kind == Kind::kCall) return AddTensor(value, name);
    if (value.kind != Kind::kDict || depth == kDeepestDict) return absl::OkStatus();
    for (size_t i = 0; i + 1 < value.items.size(); i += 2) {
      if (++visited_ > kMostVisits) return absl::InvalidArgumentError("dicts that hold each other");
      const absl::optional<std::string> key = KeyText(node(value.items[i]));
      if (!key.has_value()) continue;
      if (key->size() > kLongestKey) return absl::InvalidArgumentError(absl::StrCat("a key of ", key->size(), " bytes"));
      if (absl::Status status = Visit(value.items[i + 1], name.empty() ? *key : absl::StrCat(name, ".", *key), depth + 1); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }

  static absl::optional<std::string> KeyText(const Pickle::Node& key) {
    if (key.kind == Kind::kString) return key.text;
    if (key.kind == Kind::kInt) return absl::StrCat(key.number);  // As an optimizer numbers its parameters.
    return absl::nullopt;
  }

  // The numbers of a tuple of int, or nullopt.
  absl::optional<std::vector<int64_t>> Numbers(Pickle::Index index) const {
    if (node(index).kind != Kind::kSequence) return absl::nullopt;
    std::vector<int64_t> numbers;
    for (Pickle::Index item : node(index).items) {
      if (node(item).kind != Kind::kInt) return absl::nullopt;
      numbers.push_back(node(item).number);
    }
    return numbers;
  }

  // How torch.save() writes tensors: torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...) with
  // storage = persistent ("storage", torch.FloatStorage, key, location, numbers); a Parameter is _rebuild_parameter(tensor, ...).
  absl::Status AddTensor(const Pickle::Node& call, const std::string& name) {
    const Pickle::Node& arguments = node(call.items[1]);
    if (IsName(call.items[0], "torch._utils _rebuild_parameter") && !arguments.items.empty()) {
      const Pickle::Node& inner = node(arguments.items[0]);
      return inner.kind == Kind::kCall && &inner != &call && !IsName(inner.items[0], "torch._utils _rebuild_parameter")
                 ? AddTensor(inner, name)
                 : absl::OkStatus();
    }
    if (!IsName(call.items[0], "torch._utils _rebuild_tensor_v2") && !IsName(call.items[0], "torch._utils _rebuild_tensor")) {
      return absl::OkStatus();
    }
    if (arguments.items.size() < 4 || node(arguments.items[0]).kind != Kind::kPersistent) return absl::OkStatus();
    const Pickle::Node& id = node(node(arguments.items[0]).items[0]);
    if (id.kind != Kind::kSequence || id.items.size() < 3 || node(id.items[2]).kind != Kind::kString) return absl::OkStatus();
    const auto* type = std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes),
                                    [&](const StorageType& known) { return IsName(id.items[1], known.name); });
    const absl::optional<std::vector<int64_t>> size = Numbers(arguments.items[2]);
    const absl::optional<std::vector<int64_t>> stride = Numbers(arguments.items[3]);
    const Pickle::Node& offset = node(arguments.items[1]);
    if (type == std::end(kStorageTypes) || !size.has_value() || !stride.has_value() || offset.kind != Kind::kInt) return absl::OkStatus();
    return AddDense(name, type->type, *size, *stride, offset.number, node(id.items[2]).text);
  }

  absl::Status AddDense(const std::string& name, TensorType type, const std::vector<int64_t>& size, const std::vector<int64_t>& stride,
                        int64_t offset, const std::string& key) {
    const auto entry = file_->entries_.find(absl::StrCat(prefix_, "data/", key));
    if (entry == file_->entries_.end()) return absl::DataLossError(absl::StrCat("tensor '", name, "': storage ", key, " is missing"));
    if (size.size() != stride.size()) return absl::OkStatus();
    int64_t count = 1;
    for (size_t d = size.size(); d-- > 0;) {
      if (size[d] < 0 || (size[d] > 1 && stride[d] != count)) return absl::OkStatus();  // Not row after row.
      if (__builtin_mul_overflow(count, size[d], &count)) count = std::numeric_limits<int64_t>::max();
    }
    const int64_t stored = static_cast<int64_t>(entry->second.bytes.size()) / BytesPerElement(type);
    if (offset < 0 || offset > stored || count > stored - offset) {
      return absl::DataLossError(
          absl::StrCat("tensor '", name, "': ", count, " numbers from ", offset, " on; storage ", key, " has ", stored));
    }
    Tensor tensor;
    tensor.info.name = name;
    tensor.info.type = type;
    tensor.info.shape = size;
    tensor.bytes = entry->second.bytes.subspan(offset * BytesPerElement(type), count * BytesPerElement(type));
    tensor.storage = &entry->second;
    if (file_->tensors_.insert_or_assign(name, std::move(tensor)).second) file_->names_.push_back(name);
    if (file_->names_.size() > kMostTensors) return absl::InvalidArgumentError(absl::StrCat("more than ", kMostTensors, " tensors"));
    return absl::OkStatus();
  }

  const Pickle& pickle_;
  const std::string prefix_;  // Of all names in the archive: its own name and '/'.
  TorchFile* const file_;
  int64_t visited_ = 0;
};

absl::Status TorchFile::Load() {
  absl::StatusOr<std::map<std::string, ZipEntry>> entries = ReadZipDirectory(file_->bytes());
  if (!entries.ok()) return entries.status();
  entries_ = *std::move(entries);
  for (const auto& [name, entry] : entries_) {
    if (!absl::EndsWith(name, absl::StrCat("/", kPickleName))) continue;
    const std::string prefix = name.substr(0, name.size() - (sizeof(kPickleName) - 1));
    const auto order = entries_.find(prefix + "byteorder");
    if (order != entries_.end() && absl::string_view(order->second.bytes.data(), order->second.bytes.size()) != "little") {
      return absl::InvalidArgumentError("its numbers are not little-endian");
    }
    if (static_cast<int64_t>(entry.bytes.size()) > kLargestPickle) {
      return absl::InvalidArgumentError(absl::StrCat("a pickle of ", entry.bytes.size(), " bytes"));
    }
    if (absl::Status status = CheckZipEntry(entry); !status.ok()) return status;
    const absl::StatusOr<Pickle> pickle = Pickle::Parse(entry.bytes);
    if (!pickle.ok()) return pickle.status();
    return TorchTensorFinder(*pickle, prefix, this).Find();
  }
  return absl::InvalidArgumentError(absl::StrCat("no ", kPickleName, " in it"));
}

absl::StatusOr<std::unique_ptr<TorchFile>> TorchFile::Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<MappedFile>> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  std::unique_ptr<TorchFile> torch(new TorchFile(*std::move(file)));
  if (absl::Status status = torch->Load(); !status.ok()) {
    const absl::string_view hint =
        absl::IsInvalidArgument(status) ? "not a file of torch.save() that can be read (PyTorch 1.6 or later writes those): " : "";
    return absl::Status(status.code(), absl::StrCat(path, ": ", hint, status.message()));
  }
  return torch;
}

absl::StatusOr<TensorView> TorchFile::Find(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return absl::NotFoundError(absl::StrCat(path(), ": no tensor '", name, "'"));
  if (absl::Status status = CheckZipEntry(*found->second.storage); !status.ok()) {
    return absl::DataLossError(absl::StrCat(path(), ": tensor '", name, "': ", status.message()));
  }
  return TensorView{&found->second.info, found->second.bytes};
}

}  // namespace myriad
