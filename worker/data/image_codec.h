#ifndef MYRIAD_WORKER_DATA_IMAGE_CODEC_H_
#define MYRIAD_WORKER_DATA_IMAGE_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/image.h"

namespace myriad {

enum class ImageFormat { kUnknown, kJpeg, kPng };

// What the first bytes of a file say it is.
ImageFormat SniffImageFormat(absl::string_view bytes);

// A picture from the bytes of a JPEG or PNG file, grey or RGB as stored (16-bit values are cut to 8, palettes expanded, transparency put on
// white, no colour management). `name` starts every error. Errors: DATA_LOSS if `bytes` are empty, neither JPEG nor PNG, truncated or
// broken; UNIMPLEMENTED for CMYK; RESOURCE_EXHAUSTED if the picture has more than 2^26 pixels. Thread-safe.
absl::StatusOr<Image> DecodeImage(absl::string_view bytes, const std::string& name);

// A JPEG file (quality in [1, 100], no chroma subsampling) or a PNG file of a picture with sides in [1, 65500]. The same bytes for the
// same picture and library.
std::string EncodeJpeg(const Image& image, int quality);
std::string EncodePng(const Image& image);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_IMAGE_CODEC_H_
