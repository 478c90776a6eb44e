#include "tests/worker/data/test_images.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "worker/data/dataset_writer.h"
#include "worker/data/image_codec.h"

namespace myriad {

Image SmoothImage(int width, int height, int channels, int seed) {
  Image image{width, height, channels, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        image.pixels.push_back(static_cast<uint8_t>(128 + 60 * std::sin(0.1 * x + seed + c) + 60 * std::cos(0.12 * y + 2 * seed)));
      }
    }
  }
  return image;
}

Image NoiseImage(int width, int height, int channels, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Image image{width, height, channels, std::vector<uint8_t>(static_cast<size_t>(width) * height * channels)};
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(rng());
  return image;
}

void WriteImageFile(const std::string& path, const Image& image) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  WriteText(path, absl::EndsWith(path, ".png") ? EncodePng(image) : EncodeJpeg(image, 95));
}

void WriteImageTree(const std::string& dir, int identities, int images, int size, int channels) {
  for (int id = 0; id < identities; ++id) {
    for (int n = 0; n < images; ++n) {
      WriteImageFile(absl::StrCat(dir, "/person_", id, "/", n, ".png"), SmoothImage(size, size, channels, id * 100 + n));
    }
  }
}

void WriteRawDataset(const std::string& dir, int count, int identities, int size, int channels) {
  auto writer = DatasetWriter::Create(dir, size, channels, ImageEncoding::kRaw);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::string> names;
  for (int id = 0; id < identities; ++id) names.push_back(absl::StrCat("person ", id));
  ASSERT_TRUE((*writer)->AddSplit("train", names).ok());
  for (int i = 0; i < count; ++i) {
    const Image image = NoiseImage(size, size, channels, i);
    const absl::Status status = (*writer)->AddImage("train", i % identities, std::string(image.pixels.begin(), image.pixels.end()));
    ASSERT_TRUE(status.ok()) << status;
  }
  const absl::Status status = (*writer)->Finish();
  ASSERT_TRUE(status.ok()) << status;
}

std::vector<uint8_t> ReadBytes(const Dataset& dataset, int64_t i) {
  std::vector<uint8_t> bytes(dataset.image_bytes());
  const absl::Status status = dataset.ReadImage(i, bytes.data());
  EXPECT_TRUE(status.ok()) << status;
  return bytes;
}

FakeDataset::FakeDataset(int64_t count, int identities, int size, int channels, std::vector<int64_t> broken)
    : count_(count), size_(size), channels_(channels), broken_(std::move(broken)) {
  for (int id = 0; id < identities; ++id) identities_.push_back(absl::StrCat("person ", id));
}

absl::Status FakeDataset::ReadImage(int64_t i, uint8_t* out) const {
  if (std::count(broken_.begin(), broken_.end(), i) > 0) return absl::DataLossError(absl::StrCat(ImageName(i), ": broken"));
  const Image image = NoiseImage(size_, size_, channels_, i);
  std::copy(image.pixels.begin(), image.pixels.end(), out);
  return absl::OkStatus();
}

}  // namespace myriad
