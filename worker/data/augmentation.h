#ifndef MYRIAD_WORKER_DATA_AUGMENTATION_H_
#define MYRIAD_WORKER_DATA_AUGMENTATION_H_

#include <cstdint>

#include "absl/status/status.h"

namespace myriad {

// Random changes of a training image; each value 0 switches its change off. The fields and ranges of config.v1.AugmentationConfig.
struct AugmentationOptions {
  double flip_probability = 0;       // In [0, 1].
  double max_shift = 0;              // Part of the side, in [0, 0.5].
  double max_rotation_degrees = 0;   // In [0, 180].
  double max_scale_change = 0;       // Relative, in [0, 0.9].
  double max_brightness_change = 0;  // Relative, in [0, 1].
  double max_contrast_change = 0;    // Relative, around the image's mean, in [0, 1].
  double erase_probability = 0;      // In [0, 1]. A rectangle of 2 to 25 % of the image is filled with its mean.
};

// INVALID_ARGUMENT names field, value and range.
absl::Status ValidateAugmentation(const AugmentationOptions& options);

// Changes one image of size x size x channels bytes (HWC) from `in` to `out` (not overlapping). A pure function of its arguments: `key`
// is the image's own random key. With nothing switched on, `out` is a copy. Flip, shift, rotation and scale are one bilinear pass; places
// outside the image take its nearest border pixel. Requires: valid options, size in [1, 16384], channels 1 or 3. Thread-safe.
void Augment(const AugmentationOptions& options, uint64_t key, int size, int channels, const uint8_t* in, uint8_t* out);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_AUGMENTATION_H_
