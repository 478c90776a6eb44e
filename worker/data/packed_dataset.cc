#include "worker/data/packed_dataset.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/data/image.h"
#include "worker/data/image_codec.h"

namespace myriad {

absl::StatusOr<std::unique_ptr<PackedDataset>> PackedDataset::Create(const std::string& dir, const DatasetJson& json,
                                                                     const SplitFiles& split, SplitContent content, int image_size,
                                                                     int channels) {
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> images = RandomAccessFile::Open(absl::StrCat(dir, "/", split.images));
  if (!images.ok()) return images.status();
  return std::unique_ptr<PackedDataset>(new PackedDataset(json, std::move(content), *std::move(images),
                                                          image_size > 0 ? image_size : json.image_size,
                                                          channels > 0 ? channels : json.channels));
}

PackedDataset::PackedDataset(const DatasetJson& json, SplitContent content, std::unique_ptr<RandomAccessFile> images, int image_size,
                             int channels)
    : encoding_(json.encoding),
      stored_size_(json.image_size),
      stored_channels_(json.channels),
      image_size_(image_size),
      channels_(channels),
      content_(std::move(content)),
      images_(std::move(images)) {}

std::string PackedDataset::ImageName(int64_t i) const { return absl::StrCat(images_->path(), ": image ", i); }

absl::Status PackedDataset::ReadImage(int64_t i, uint8_t* out) const {
  Image image{stored_size_, stored_size_, stored_channels_, {}};
  if (encoding_ == ImageEncoding::kRaw) {
    const int64_t bytes = int64_t{stored_size_} * stored_size_ * stored_channels_;
    const bool as_stored = stored_size_ == image_size_ && stored_channels_ == channels_;
    if (!as_stored) image.pixels.resize(bytes);
    absl::Status status = images_->ReadAt(i * bytes, bytes, as_stored ? out : image.pixels.data());
    if (!status.ok() || as_stored) return status;
  } else {
    const int64_t start = content_.offsets[i];
    std::string bytes(content_.offsets[i + 1] - start, '\0');
    if (absl::Status status = images_->ReadAt(start, bytes.size(), bytes.data()); !status.ok()) return status;
    absl::StatusOr<Image> decoded = DecodeImage(bytes, ImageName(i));
    if (!decoded.ok()) return decoded.status();
    if (decoded->width != stored_size_ || decoded->height != stored_size_) {
      return absl::DataLossError(absl::StrCat(ImageName(i), " is ", decoded->width, " x ", decoded->height,
                                              " pixels; dataset.json says image_size ", stored_size_));
    }
    image = *std::move(decoded);
  }
  const Image fitted = FitImage(std::move(image), image_size_, channels_);
  std::copy(fitted.pixels.begin(), fitted.pixels.end(), out);
  return absl::OkStatus();
}

}  // namespace myriad
