#ifndef MYRIAD_WORKER_DATA_IMAGE_FILE_DATASET_H_
#define MYRIAD_WORKER_DATA_IMAGE_FILE_DATASET_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/dataset.h"
#include "worker/data/image.h"
#include "worker/data/image_file_list.h"

namespace myriad {

// Reads and decodes one image file. Errors start with `path` (see DecodeImage).
absl::StatusOr<Image> ReadImageFile(const std::string& path);

// Images that are files of their own, brought to one size and number of channels.
class ImageFileDataset : public Dataset {
 public:
  // 0 for `image_size` (else in [1, 16384]) or `channels` takes the longer side or the channels of the first image that can be read.
  // Errors: that of the first image, if none of the first hundred can be read.
  static absl::StatusOr<std::unique_ptr<ImageFileDataset>> Create(ImageFileList list, int image_size, int channels);

  int64_t size() const override { return list_.labels.size(); }
  int64_t label(int64_t i) const override { return list_.labels[i]; }
  const std::vector<std::string>& identities() const override { return list_.identities; }
  int image_size() const override { return image_size_; }
  int channels() const override { return channels_; }
  std::string ImageName(int64_t i) const override { return list_.paths[i]; }
  absl::Status ReadImage(int64_t i, uint8_t* out) const override;

  const ImageFileList& files() const { return list_; }

 private:
  ImageFileDataset(ImageFileList list, int image_size, int channels)
      : list_(std::move(list)), image_size_(image_size), channels_(channels) {}

  const ImageFileList list_;
  const int image_size_;
  const int channels_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_IMAGE_FILE_DATASET_H_
