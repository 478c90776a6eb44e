#ifndef MYRIAD_CLIENT_TORCH_FILE_H_
#define MYRIAD_CLIENT_TORCH_FILE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/mapped_file.h"
#include "client/safetensors.h"
#include "client/zip_directory.h"

namespace myriad {

// The tensors of a file that Python's torch.save() wrote (PyTorch 1.6 or later: a zip archive of a pickle and the raw storages), through a
// memory map: a tensor of many GB is read as it is looked at and never held. Nothing of the file is run: see Pickle. Thread-safe
// (immutable).
class TorchFile {
 public:
  // Some 200 MiB of memory at most, whatever the file says. Errors, each naming the path: those of the system; INVALID_ARGUMENT: no such
  // file (PyTorch's older format among them: save it again), numbers that are not little-endian, more objects or tensors or longer keys
  // than a checkpoint has; DATA_LOSS: damaged or cut short.
  static absl::StatusOr<std::unique_ptr<TorchFile>> Open(const std::string& path);

  const std::string& path() const { return file_->path(); }

  // The tensors that dicts lead to, each under the keys on its way, text or whole numbers, joined by '.', as in "state_dict.fc.weight"; ""
  // if the file is one tensor. Those of dtypes that are not known here, and those that are not dense and row after row, are left out.
  const std::vector<std::string>& names() const { return names_; }
  // Requires: one of names(). Valid while the object lives.
  const TensorInfo& InfoOf(absl::string_view name) const { return tensors_.find(name)->second.info; }

  // Reads all of its storage once, to check it. Valid while the object lives. Errors: NOT_FOUND; DATA_LOSS (a checksum); both name path and
  // tensor.
  absl::StatusOr<TensorView> Find(absl::string_view name) const;

 private:
  struct Tensor {
    TensorInfo info;
    absl::Span<const char> bytes;
    const ZipEntry* storage = nullptr;
  };
  friend class TorchTensorFinder;

  explicit TorchFile(std::unique_ptr<MappedFile> file) : file_(std::move(file)) {}
  absl::Status Load();

  const std::unique_ptr<MappedFile> file_;
  std::map<std::string, ZipEntry> entries_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::vector<std::string> names_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_TORCH_FILE_H_
