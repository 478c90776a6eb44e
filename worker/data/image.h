#ifndef MYRIAD_WORKER_DATA_IMAGE_H_
#define MYRIAD_WORKER_DATA_IMAGE_H_

#include <cstdint>
#include <vector>

namespace myriad {

// A picture in memory: height x width x channels bytes, rows from the top, channels last. channels: 1 (grey) or 3 (RGB).
struct Image {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<uint8_t> pixels;
};

// Grey -> RGB by repeating, RGB -> grey by 0.299 R + 0.587 G + 0.114 B, rounded. Requires: channels 1 or 3.
Image ConvertChannels(Image image, int channels);

// Resamples to width x height. Each output pixel is the mean of its input pixels under a triangle of twice the ratio's width: an area
// average when shrinking (no aliasing), bilinear when growing. The same size is returned as it is. Requires: sides >= 1.
Image Resize(Image image, int width, int height);

// Both, to the form of a data set: size x size x channels.
Image FitImage(Image image, int size, int channels);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_IMAGE_H_
