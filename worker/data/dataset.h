#ifndef MYRIAD_WORKER_DATA_DATASET_H_
#define MYRIAD_WORKER_DATA_DATASET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace myriad {

// Images with identities, read by number in any order. All images have one size and one number of channels.
// Thread-safe and immutable: ReadImage() calls run together.
class Dataset {
 public:
  virtual ~Dataset() = default;

  // Number of images. At least 1.
  virtual int64_t size() const = 0;
  // Identity of image `i` as an index into identities(). Requires: i in [0, size()).
  virtual int64_t label(int64_t i) const = 0;
  // Names of the identities, distinct; index = label. An identity may have no image.
  virtual const std::vector<std::string>& identities() const = 0;
  // Side of the square images in pixels.
  virtual int image_size() const = 0;
  // 1 (grey) or 3 (RGB).
  virtual int channels() const = 0;
  // What errors call image `i`: its file, or the file of all images and the number.
  virtual std::string ImageName(int64_t i) const = 0;

  // Writes image `i` to `out`: image_size x image_size x channels bytes, rows from the top, channels last (HWC), 0 = black.
  // Requires: i in [0, size()). Errors start with ImageName(i): NOT_FOUND if the file is not there, DATA_LOSS if it is truncated or no
  // image, UNIMPLEMENTED for a kind of file that is not read. `out` is then undefined.
  virtual absl::Status ReadImage(int64_t i, uint8_t* out) const = 0;

  // Bytes that ReadImage() writes.
  int64_t image_bytes() const { return int64_t{image_size()} * image_size() * channels(); }
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_DATASET_H_
