#ifndef MYRIAD_WORKER_DATA_OPEN_DATASET_H_
#define MYRIAD_WORKER_DATA_OPEN_DATASET_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/data/dataset.h"
#include "worker/data/pairs.h"

namespace myriad {

enum class DatasetFormat {
  kAuto,         // kDatasetJson where the folder has a dataset.json, else kFolder.
  kDatasetJson,  // docs/formats.md: dataset.json and the files of its splits.
  kFolder,       // One folder of images (JPEG, PNG) per identity.
};

// What the caller wants to read, whatever is stored. Images of another size are resampled (the whole image, its shape changed if it is not
// square); grey and RGB are converted into each other.
struct OpenDatasetOptions {
  // Side in pixels; 0: as stored, for kFolder the longer side of the first image.
  int image_size = 0;
  // 1 or 3; 0: as stored, for kFolder those of the first image.
  int channels = 0;
};

// Opens a split for reading. A folder tree has the one split "train"; an empty `split` means it.
// Everything but the images is read and checked: counts, sizes of the files, offsets, labels.
// Errors: NOT_FOUND if the folder, a file or the split is not there (naming the splits that are); INVALID_ARGUMENT for a layout that
// breaks the format, naming file and offending value, and for `options` out of range; DATA_LOSS for a file shorter than it should be.
absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const std::string& path, const std::string& split, DatasetFormat format,
                                                     const OpenDatasetOptions& options = {});

// The verification pairs of a split of a dataset.json.
// Errors: as OpenDataset; NOT_FOUND if the split has no pairs; INVALID_ARGUMENT names file, line and value if a pair is wrong.
absl::StatusOr<std::vector<VerificationPair>> OpenPairs(const std::string& path, const std::string& split);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_OPEN_DATASET_H_
