#ifndef MYRIAD_TESTS_WORKER_DATA_TEST_IMAGES_H_
#define MYRIAD_TESTS_WORKER_DATA_TEST_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "worker/data/dataset.h"
#include "worker/data/dataset_json.h"
#include "worker/data/image.h"

namespace myriad {

// A smooth picture that differs for every seed (smooth: JPEG keeps it nearly).
Image SmoothImage(int width, int height, int channels, int seed);

// Pixels without any order.
Image NoiseImage(int width, int height, int channels, uint64_t seed);

// Makes the folders above `path` and writes the picture as its extension says.
void WriteImageFile(const std::string& path, const Image& image);

// A tree of `identities` folders person_0, person_1, ... with `images` PNG files each: SmoothImage(size, size, channels, identity * 100 +
// n).
void WriteImageTree(const std::string& dir, int identities, int images, int size, int channels);

// A data set of one split "train", raw: image i is NoiseImage(size, size, channels, i), label i mod identities.
void WriteRawDataset(const std::string& dir, int count, int identities, int size, int channels);

// All bytes of image i; a test failure if it cannot be read.
std::vector<uint8_t> ReadBytes(const Dataset& dataset, int64_t i);

// Images in memory: image i is NoiseImage(size, size, channels, i), label i mod identities. Reading `broken` fails.
class FakeDataset : public Dataset {
 public:
  FakeDataset(int64_t count, int identities, int size, int channels, std::vector<int64_t> broken = {});

  int64_t size() const override { return count_; }
  int64_t label(int64_t i) const override { return i % identities_.size(); }
  const std::vector<std::string>& identities() const override { return identities_; }
  int image_size() const override { return size_; }
  int channels() const override { return channels_; }
  std::string ImageName(int64_t i) const override { return "fake " + std::to_string(i); }
  absl::Status ReadImage(int64_t i, uint8_t* out) const override;

 private:
  const int64_t count_;
  const int size_;
  const int channels_;
  const std::vector<int64_t> broken_;
  std::vector<std::string> identities_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_WORKER_DATA_TEST_IMAGES_H_
