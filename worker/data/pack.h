#ifndef MYRIAD_WORKER_DATA_PACK_H_
#define MYRIAD_WORKER_DATA_PACK_H_

#include <atomic>
#include <cstdint>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "worker/data/dataset_json.h"

namespace myriad {

// `pack`: a folder tree or a list of files -> a data set in the dataset.json layout.
struct PackOptions {
  std::string source;  // A folder with one folder of images per identity, or a .tsv file of path<TAB>identity name.
  std::string out;     // The new folder.
  ImageEncoding encoding = ImageEncoding::kRaw;
  int image_size = 0;  // In [1, 16384]; 0: the longer side of the first image.
  int channels = 0;    // 1 or 3; 0: those of the first image.
  int jpeg_quality = 95;
  int64_t holdout_classes = 0;  // Identities, drawn at random, that go to the split "eval" instead of "train".
  int64_t pairs = 6000;         // Verification pairs of the held-out identities; a multiple of 20, or 0 for none.
  uint64_t seed = 0;            // Of the two draws.
  bool skip_unreadable = false;
  int threads = 0;                          // 0: all cores. The output does not depend on it.
  const std::atomic<bool>* stop = nullptr;  // Set: ends with CANCELLED. May be null.
  std::ostream* results = nullptr;          // Borrowed. What was written, and every image left out. May be null.
  std::ostream* progress = nullptr;         // Borrowed. May be null.
};

// Writes the data set, or nothing. A file that already is in the wanted encoding, size and channels is stored byte for byte.
// Errors: INVALID_ARGUMENT for options out of range, or more pairs than the held-out images give (told before the first is decoded, unless
// only those that cannot be read lack); ALREADY_EXISTS if `out` is there; that of the first image that cannot be read, unless
// skip_unreadable; CANCELLED.
absl::Status RunPack(const PackOptions& options);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_PACK_H_
