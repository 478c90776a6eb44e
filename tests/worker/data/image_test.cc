#include "worker/data/image.h"

#include <cstdlib>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/data/test_images.h"
#include "worker/data/image_codec.h"

namespace myriad {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

void ExpectNear(const Image& got, const Image& want, int tolerance) {
  ASSERT_EQ(got.width, want.width);
  ASSERT_EQ(got.height, want.height);
  ASSERT_EQ(got.channels, want.channels);
  ASSERT_EQ(got.pixels.size(), want.pixels.size());
  for (size_t i = 0; i < got.pixels.size(); ++i) ASSERT_NEAR(got.pixels[i], want.pixels[i], tolerance) << i;
}

TEST(ImageCodecTest, PngKeepsEveryPixel) {
  for (const int channels : {1, 3}) {
    const Image image = NoiseImage(31, 17, channels, 5);
    const auto decoded = DecodeImage(EncodePng(image), "a.png");
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ExpectNear(*decoded, image, 0);
  }
}

TEST(ImageCodecTest, JpegKeepsASmoothPictureNearly) {
  for (const int channels : {1, 3}) {
    const Image image = SmoothImage(40, 23, channels, 5);
    const auto decoded = DecodeImage(EncodeJpeg(image, 95), "a.jpg");
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ExpectNear(*decoded, image, 6);
  }
}

TEST(ImageCodecTest, EveryTruncationIsAnErrorWithTheName) {
  const Image image = NoiseImage(24, 24, 3, 1);
  for (const std::string& bytes : {EncodePng(image), EncodeJpeg(image, 90)}) {
    ASSERT_GT(bytes.size(), 500u);
    // The last two bytes of a JPEG only say that it ends.
    for (size_t length = 0; length < bytes.size() - 2; length += 1 + length / 40) {
      const auto decoded = DecodeImage(absl::string_view(bytes).substr(0, length), "folder/cut.img");
      ASSERT_FALSE(decoded.ok()) << length << " of " << bytes.size();
      EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(std::string(decoded.status().message()), StartsWith("folder/cut.img: "));
    }
  }
}

TEST(ImageCodecTest, OtherFilesAreErrors) {
  EXPECT_THAT(std::string(DecodeImage("", "empty.png").status().message()), HasSubstr("empty.png: the file is empty"));
  EXPECT_THAT(std::string(DecodeImage("GIF89a and so on", "a.png").status().message()), HasSubstr("a.png: neither a JPEG nor a PNG"));
  EXPECT_EQ(DecodeImage("\xFF\xD8\xFF and then nothing of the kind", "a.jpg").status().code(), absl::StatusCode::kDataLoss);
}

TEST(ImageCodecTest, DamageInsideNeverCrashes) {
  const Image image = NoiseImage(24, 24, 3, 1);
  for (const std::string& bytes : {EncodePng(image), EncodeJpeg(image, 90)}) {
    int errors = 0;
    for (size_t at = 8; at < bytes.size(); ++at) {
      std::string damaged = bytes;
      damaged[at] ^= 0x55;
      errors += !DecodeImage(damaged, "damaged").ok();
    }
    EXPECT_GT(errors, 10);
  }
}

TEST(ImageCodecTest, AHugePictureIsRefusedBeforeItTakesMemory) {
  std::string bytes = EncodeJpeg(NoiseImage(16, 16, 1, 1), 90);
  // The frame header: FF C0, length (2), precision, height (2), width (2).
  const size_t frame = bytes.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  bytes.replace(frame + 5, 4, "\xFF\xDC\xFF\xDC");
  const auto decoded = DecodeImage(bytes, "huge.jpg");
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kResourceExhausted) << decoded.status();
}

TEST(ImageTest, GreyAndRgbConvertIntoEachOther) {
  const Image grey = NoiseImage(5, 4, 1, 3);
  const Image rgb = ConvertChannels(grey, 3);
  ASSERT_EQ(rgb.pixels.size(), 60u);
  EXPECT_EQ(rgb.pixels[4], grey.pixels[1]);
  ExpectNear(ConvertChannels(rgb, 1), grey, 0);
  EXPECT_EQ(ConvertChannels(Image{1, 1, 3, {255, 0, 0}}, 1).pixels[0], 76);
  EXPECT_EQ(ConvertChannels(Image{1, 1, 3, {0, 255, 0}}, 1).pixels[0], 150);
}

TEST(ImageTest, ResizeKeepsFlatPicturesAndMeans) {
  const Image flat{9, 7, 1, std::vector<uint8_t>(63, 201)};
  for (const int side : {1, 3, 8, 40}) {
    for (const uint8_t value : Resize(flat, side, side).pixels) ASSERT_EQ(value, 201);
  }
  const Image noise = NoiseImage(64, 64, 1, 9);
  double sum = 0;
  for (const uint8_t value : noise.pixels) sum += value;
  EXPECT_NEAR(Resize(noise, 1, 1).pixels[0], sum / noise.pixels.size(), 4);
}

TEST(ImageTest, ResizeGivesTheSmoothPictureOfThatSize) {
  // A ramp across: the value at the middle of an output pixel is known.
  Image ramp{64, 64, 1, {}};
  for (int i = 0; i < 64 * 64; ++i) ramp.pixels.push_back(static_cast<uint8_t>(2 * (i % 64) + 10));
  const Image half = Resize(ramp, 32, 16);
  ASSERT_EQ(half.width, 32);
  ASSERT_EQ(half.height, 16);
  for (int x = 2; x < 30; ++x) EXPECT_NEAR(half.pixels[5 * 32 + x], 2 * (2 * x + 0.5) + 10, 1);
  const Image twice = Resize(ramp, 128, 64);
  for (int x = 2; x < 126; ++x) EXPECT_NEAR(twice.pixels[5 * 128 + x], 2 * ((x + 0.5) / 2 - 0.5) + 10, 1);
}

}  // namespace
}  // namespace myriad
