#ifndef MYRIAD_WORKER_DATA_DATASET_JSON_H_
#define MYRIAD_WORKER_DATA_DATASET_JSON_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace myriad {

// How the images of a packed data set are stored.
enum class ImageEncoding {
  kRaw,   // image_size x image_size x channels bytes each.
  kJpeg,  // A whole JPEG file each.
  kPng,   // A whole PNG file each.
};
absl::string_view ImageEncodingName(ImageEncoding encoding);
// INVALID_ARGUMENT for another name than raw, jpeg, png.
absl::StatusOr<ImageEncoding> ParseImageEncoding(absl::string_view name);

// The files of a split, by name in the folder of dataset.json, and what they hold.
struct SplitFiles {
  int64_t count = 0;       // Images. >= 1.
  std::string images;      // The images one after the other.
  std::string offsets;     // int64 little-endian [count + 1]: image i is bytes [offsets[i], offsets[i+1]). Empty for raw.
  std::string labels;      // int64 little-endian [count].
  std::string identities;  // A line per identity: its name, then, if anything, a tab and more. Line number = label.
  std::string pairs;       // imageA<TAB>imageB<TAB>0|1, ten folds. Empty if the split has none.
};

// What dataset.json says (docs/formats.md).
struct DatasetJson {
  static constexpr int kVersion = 1;
  static constexpr int kMaxImageSize = 16384;

  int image_size = 0;  // In [1, kMaxImageSize].
  int channels = 0;    // 1 or 3.
  ImageEncoding encoding = ImageEncoding::kRaw;
  std::map<std::string, SplitFiles> splits;  // At least one.
};

// Reads DIR/dataset.json. Errors: NOT_FOUND; INVALID_ARGUMENT naming file, field and value for no JSON, another version, a field that is
// missing, of another kind or out of range, a file name that is not a plain name.
absl::StatusOr<DatasetJson> ReadDatasetJson(const std::string& dir);

// The text that ReadDatasetJson() reads.
std::string FormatDatasetJson(const DatasetJson& dataset);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_DATASET_JSON_H_
