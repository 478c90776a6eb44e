#ifndef MYRIAD_WORKER_DATA_PNG_CODEC_H_
#define MYRIAD_WORKER_DATA_PNG_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/image.h"

// libpng behind image_codec.h, which says what these do; errors here do not start with a name.
namespace myriad::internal {

absl::StatusOr<Image> DecodePng(absl::string_view bytes, int64_t max_pixels);
std::string EncodePng(const Image& image);

}  // namespace myriad::internal

#endif  // MYRIAD_WORKER_DATA_PNG_CODEC_H_
