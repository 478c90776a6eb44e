#include "worker/data/image_file_dataset.h"

#include <algorithm>
#include <utility>

#include "client/file_util.h"
#include "worker/data/image_codec.h"

namespace myriad {

absl::StatusOr<Image> ReadImageFile(const std::string& path) {
  const absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  return DecodeImage(*bytes, path);
}

absl::StatusOr<std::unique_ptr<ImageFileDataset>> ImageFileDataset::Create(ImageFileList list, int image_size, int channels) {
  if (image_size == 0 || channels == 0) {
    absl::StatusOr<Image> first = ReadImageFile(list.paths.front());
    const absl::Status first_error = first.status();
    const size_t tries = std::min<size_t>(list.paths.size(), 100);
    for (size_t i = 1; i < tries && !first.ok(); ++i) first = ReadImageFile(list.paths[i]);
    if (!first.ok()) return first_error;
    if (image_size == 0) image_size = std::max(first->width, first->height);
    if (channels == 0) channels = first->channels;
  }
  return std::unique_ptr<ImageFileDataset>(new ImageFileDataset(std::move(list), image_size, channels));
}

absl::Status ImageFileDataset::ReadImage(int64_t i, uint8_t* out) const {
  absl::StatusOr<Image> image = ReadImageFile(list_.paths[i]);
  if (!image.ok()) return image.status();
  const Image fitted = FitImage(*std::move(image), image_size_, channels_);
  std::copy(fitted.pixels.begin(), fitted.pixels.end(), out);
  return absl::OkStatus();
}

}  // namespace myriad
