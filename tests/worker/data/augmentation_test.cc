#include "worker/data/augmentation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/data/test_images.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;

std::vector<uint8_t> Changed(const AugmentationOptions& options, uint64_t key, const Image& image) {
  std::vector<uint8_t> out(image.pixels.size(), 77);
  Augment(options, key, image.width, image.channels, image.pixels.data(), out.data());
  return out;
}

AugmentationOptions Everything() {
  AugmentationOptions options;
  options.flip_probability = 0.5;
  options.max_shift = 0.1;
  options.max_rotation_degrees = 10;
  options.max_scale_change = 0.1;
  options.max_brightness_change = 0.2;
  options.max_contrast_change = 0.2;
  options.erase_probability = 0.5;
  return options;
}

TEST(AugmentationTest, NothingSwitchedOnIsACopy) {
  for (const int channels : {1, 3}) {
    const Image image = NoiseImage(33, 33, channels, 2);
    for (uint64_t key = 0; key < 20; ++key) EXPECT_EQ(Changed({}, key, image), image.pixels);
  }
}

TEST(AugmentationTest, TheSameKeyGivesTheSameImage) {
  const Image image = SmoothImage(48, 48, 3, 2);
  for (uint64_t key = 0; key < 50; ++key) {
    EXPECT_EQ(Changed(Everything(), key, image), Changed(Everything(), key, image));
    EXPECT_NE(Changed(Everything(), key, image), Changed(Everything(), key + 1000, image));
  }
}

TEST(AugmentationTest, AFlipMirrorsExactly) {
  AugmentationOptions options;
  options.flip_probability = 1;
  for (const int size : {32, 33}) {
    const Image image = NoiseImage(size, size, 3, 4);
    const std::vector<uint8_t> flipped = Changed(options, 5, image);
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        for (int c = 0; c < 3; ++c) ASSERT_EQ(flipped[(y * size + x) * 3 + c], image.pixels[(y * size + size - 1 - x) * 3 + c]);
      }
    }
  }
  options.flip_probability = 0.25;
  const Image image = NoiseImage(8, 8, 1, 4);
  int flips = 0;
  for (uint64_t key = 0; key < 4000; ++key) flips += Changed(options, key, image) != image.pixels;
  EXPECT_NEAR(flips, 1000, 5 * 27);
}

TEST(AugmentationTest, ShiftAndRotationMoveADotWithinTheirRange) {
  // A blob off the middle; its center of mass tells where it went.
  constexpr int kSize = 64;
  Image image{kSize, kSize, 1, std::vector<uint8_t>(kSize * kSize, 0)};
  for (int y = 30; y < 34; ++y) {
    for (int x = 46; x < 50; ++x) image.pixels[y * kSize + x] = 255;
  }
  const auto center = [](const std::vector<uint8_t>& pixels) {
    double sum = 0, sum_x = 0, sum_y = 0;
    for (int i = 0; i < kSize * kSize; ++i) {
      sum += pixels[i];
      sum_x += pixels[i] * (i % kSize);
      sum_y += pixels[i] * (i / kSize);
    }
    return std::pair<double, double>(sum_x / sum - 31.5, sum_y / sum - 31.5);
  };
  ASSERT_NEAR(center(image.pixels).first, 16, 1e-9);
  AugmentationOptions shift;
  shift.max_shift = 0.125;  // 8 pixels.
  AugmentationOptions turn;
  turn.max_rotation_degrees = 30;
  AugmentationOptions scale;
  scale.max_scale_change = 0.25;
  double largest_shift = 0, largest_turn = 0, largest_scale = 0;
  for (uint64_t key = 0; key < 300; ++key) {
    const auto [sx, sy] = center(Changed(shift, key, image));
    ASSERT_LE(std::max(std::abs(sx - 16), std::abs(sy)), 8.1);
    largest_shift = std::max(largest_shift, std::abs(sx - 16));
    const auto [tx, ty] = center(Changed(turn, key, image));
    ASSERT_NEAR(std::hypot(tx, ty), 16, 0.1);
    ASSERT_LE(std::abs(std::atan2(ty, tx)), 30.5 * 3.14159265 / 180);
    largest_turn = std::max(largest_turn, std::abs(std::atan2(ty, tx)) * 180 / 3.14159265);
    const auto [cx, cy] = center(Changed(scale, key, image));
    ASSERT_NEAR(cy, 0, 0.1);
    ASSERT_GE(cx, 16 * 0.75 - 0.1);
    ASSERT_LE(cx, 16 * 1.25 + 0.1);
    largest_scale = std::max(largest_scale, cx);
  }
  EXPECT_GT(largest_shift, 7);
  EXPECT_GT(largest_turn, 27);
  EXPECT_GT(largest_scale, 19);
}

TEST(AugmentationTest, BrightnessScalesAndContrastKeepsTheMean) {
  Image image{8, 8, 1, std::vector<uint8_t>(64, 100)};
  AugmentationOptions brightness;
  brightness.max_brightness_change = 0.5;
  std::vector<uint8_t> seen;
  for (uint64_t key = 0; key < 200; ++key) {
    const std::vector<uint8_t> out = Changed(brightness, key, image);
    ASSERT_EQ(out, std::vector<uint8_t>(64, out[0]));
    seen.push_back(out[0]);
  }
  EXPECT_LT(*std::min_element(seen.begin(), seen.end()), 55);
  EXPECT_GT(*std::max_element(seen.begin(), seen.end()), 145);
  for (int i = 0; i < 64; ++i) image.pixels[i] = i % 2 == 0 ? 80 : 120;
  AugmentationOptions contrast;
  contrast.max_contrast_change = 0.5;
  for (uint64_t key = 0; key < 200; ++key) {
    const std::vector<uint8_t> out = Changed(contrast, key, image);
    ASSERT_NEAR(out[0] + out[1], 200, 1);
    ASSERT_GE(out[1] - out[0], 19);
    ASSERT_LE(out[1] - out[0], 61);
  }
}

TEST(AugmentationTest, EraseFillsAtMostAQuarter) {
  const Image image = NoiseImage(48, 48, 1, 6);
  AugmentationOptions options;
  options.erase_probability = 1;
  int most = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    const std::vector<uint8_t> out = Changed(options, key, image);
    int changed = 0;
    for (size_t i = 0; i < out.size(); ++i) changed += out[i] != image.pixels[i];
    ASSERT_GT(changed, 0);
    ASSERT_LE(changed, 48 * 48 * 0.27);
    most = std::max(most, changed);
  }
  EXPECT_GT(most, 48 * 48 * 0.2);
}

TEST(AugmentationTest, ValuesOutOfRangeAreNamed) {
  AugmentationOptions options;
  EXPECT_TRUE(ValidateAugmentation(options).ok());
  EXPECT_TRUE(ValidateAugmentation(Everything()).ok());
  options.max_shift = 0.6;
  EXPECT_THAT(std::string(ValidateAugmentation(options).message()), HasSubstr("max_shift is 0.6; a number in [0, 0.5]"));
  options.max_shift = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(ValidateAugmentation(options).ok());
  options.max_shift = 0;
  options.flip_probability = -0.1;
  EXPECT_THAT(std::string(ValidateAugmentation(options).message()), HasSubstr("flip_probability is -0.1"));
}

}  // namespace
}  // namespace myriad
