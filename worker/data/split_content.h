#ifndef MYRIAD_WORKER_DATA_SPLIT_CONTENT_H_
#define MYRIAD_WORKER_DATA_SPLIT_CONTENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/data/dataset_json.h"

namespace myriad {

// Faults found in data, up to a limit: opening stops at the first, checking names them all. Not thread-safe.
class ProblemList {
 public:
  explicit ProblemList(int64_t limit) : limit_(limit) {}

  void Add(absl::Status problem) {
    if (!full()) problems_.push_back(std::move(problem));
  }
  bool full() const { return static_cast<int64_t>(problems_.size()) >= limit_; }
  const std::vector<absl::Status>& problems() const { return problems_; }
  // OK if there is none.
  absl::Status first() const { return problems_.empty() ? absl::OkStatus() : problems_.front(); }

 private:
  const int64_t limit_;
  std::vector<absl::Status> problems_;
};

// All of a packed split but its images.
struct SplitContent {
  std::vector<int64_t> labels;   // [count], each in [0, identities.size()).
  std::vector<int64_t> offsets;  // [count + 1], rising; empty for raw.
  std::vector<std::string> identities;
  bool images_readable = false;  // The offsets and the size of the file of images are right.
};

// Reads and checks all of a split but its images, and the size of the file of images. Every fault is added to `problems`: NOT_FOUND for a
// missing file, DATA_LOSS for a file of another size than the count says, INVALID_ARGUMENT for a wrong value, always with the file's name.
// What could be read is returned; it is as described only if nothing was added.
SplitContent LoadSplitContent(const std::string& dir, const DatasetJson& dataset, const SplitFiles& split, ProblemList* problems);

// The names in a file of identities, one a line up to the first tab. Faults: no name, an empty one, one that comes twice.
std::vector<std::string> ReadIdentities(const std::string& file, ProblemList* problems);

// INVALID_ARGUMENT if a name cannot stand in a file of identities: it is empty or has a tab or a line break.
absl::Status ValidateIdentityName(const std::string& name);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_SPLIT_CONTENT_H_
