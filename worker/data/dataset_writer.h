#ifndef MYRIAD_WORKER_DATA_DATASET_WRITER_H_
#define MYRIAD_WORKER_DATA_DATASET_WRITER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/data/dataset_json.h"
#include "worker/data/file_io.h"
#include "worker/data/pairs.h"

namespace myriad {

// Writes a data set in the dataset.json layout. It grows in a folder of another name beside DIR (DIR.partial-PID) and takes its own name in
// Finish(): a reader sees all of it or nothing. Not thread-safe.
class DatasetWriter {
 public:
  // Creates the folders above DIR. Errors: ALREADY_EXISTS if DIR is there and not an empty folder; those of the file system.
  static absl::StatusOr<std::unique_ptr<DatasetWriter>> Create(const std::string& dir, int image_size, int channels,
                                                               ImageEncoding encoding);
  // Without Finish() everything is removed.
  ~DatasetWriter();

  // Begins a split. Requires: a new name without '/'.
  absl::Status AddSplit(const std::string& split, const std::vector<std::string>& identities);
  // Adds the next image: its raw bytes (of the one size), or a whole file of the encoding. Requires: a label of the split's identities.
  absl::Status AddImage(const std::string& split, int64_t label, absl::string_view bytes);
  // At most once a split. Requires: images of the split.
  absl::Status SetPairs(const std::string& split, absl::Span<const VerificationPair> pairs);
  // Puts another file beside dataset.json.
  absl::Status AddFile(const std::string& name, absl::string_view text);

  int64_t image_count(const std::string& split) const { return splits_.at(split).labels.size(); }
  const std::vector<int64_t>& labels(const std::string& split) const { return splits_.at(split).labels; }

  // Writes dataset.json, waits for the disk and moves everything to DIR. No call after it. Errors: FAILED_PRECONDITION if a split has no
  // image; ALREADY_EXISTS if DIR came to be meanwhile.
  absl::Status Finish();

 private:
  struct Split {
    SplitFiles files;
    int64_t identity_count = 0;
    std::unique_ptr<FileWriter> images;
    std::vector<int64_t> labels;
    std::vector<int64_t> offsets;  // Of image starts and the end; kept for raw too (no cost that matters), written otherwise.
  };

  DatasetWriter(std::string dir, std::string temp_dir) : dir_(std::move(dir)), temp_dir_(std::move(temp_dir)) {}

  const std::string dir_;
  const std::string temp_dir_;
  DatasetJson json_;
  std::map<std::string, Split> splits_;
  bool finished_ = false;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_DATASET_WRITER_H_
