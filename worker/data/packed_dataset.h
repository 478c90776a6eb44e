#ifndef MYRIAD_WORKER_DATA_PACKED_DATASET_H_
#define MYRIAD_WORKER_DATA_PACKED_DATASET_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/dataset.h"
#include "worker/data/dataset_json.h"
#include "worker/data/file_io.h"
#include "worker/data/split_content.h"

namespace myriad {

// A split of a dataset.json. Labels and offsets are in memory (16 bytes an image), images are read when asked for.
class PackedDataset : public Dataset {
 public:
  // `image_size` and `channels` are those to deliver; 0: as stored. `content` has been checked against `json` and `split`.
  static absl::StatusOr<std::unique_ptr<PackedDataset>> Create(const std::string& dir, const DatasetJson& json, const SplitFiles& split,
                                                               SplitContent content, int image_size, int channels);

  int64_t size() const override { return content_.labels.size(); }
  int64_t label(int64_t i) const override { return content_.labels[i]; }
  const std::vector<std::string>& identities() const override { return content_.identities; }
  int image_size() const override { return image_size_; }
  int channels() const override { return channels_; }
  std::string ImageName(int64_t i) const override;
  absl::Status ReadImage(int64_t i, uint8_t* out) const override;

 private:
  PackedDataset(const DatasetJson& json, SplitContent content, std::unique_ptr<RandomAccessFile> images, int image_size, int channels);

  const ImageEncoding encoding_;
  const int stored_size_;
  const int stored_channels_;
  const int image_size_;
  const int channels_;
  const SplitContent content_;
  const std::unique_ptr<RandomAccessFile> images_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_PACKED_DATASET_H_
