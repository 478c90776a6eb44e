#include "worker/data/image_codec.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/data/jpeg_codec.h"
#include "worker/data/png_codec.h"

namespace myriad {
namespace {

// A file of a few hundred bytes can claim a picture of any size; this bounds what one read may allocate (200 MB).
constexpr int64_t kMaxPixels = int64_t{1} << 26;

}  // namespace

ImageFormat SniffImageFormat(absl::string_view bytes) {
  if (absl::StartsWith(bytes, "\xFF\xD8\xFF")) return ImageFormat::kJpeg;
  if (absl::StartsWith(bytes, "\x89PNG\r\n\x1A\n")) return ImageFormat::kPng;
  return ImageFormat::kUnknown;
}

absl::StatusOr<Image> DecodeImage(absl::string_view bytes, const std::string& name) {
  if (bytes.empty()) return absl::DataLossError(absl::StrCat(name, ": the file is empty"));
  absl::StatusOr<Image> image;
  switch (SniffImageFormat(bytes)) {
    case ImageFormat::kJpeg: image = internal::DecodeJpeg(bytes, kMaxPixels); break;
    case ImageFormat::kPng: image = internal::DecodePng(bytes, kMaxPixels); break;
    case ImageFormat::kUnknown: return absl::DataLossError(absl::StrCat(name, ": neither a JPEG nor a PNG file"));
  }
  if (!image.ok()) return absl::Status(image.status().code(), absl::StrCat(name, ": ", image.status().message()));
  return image;
}

std::string EncodeJpeg(const Image& image, int quality) { return internal::EncodeJpeg(image, quality); }
std::string EncodePng(const Image& image) { return internal::EncodePng(image); }

}  // namespace myriad
