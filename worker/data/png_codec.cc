#include "worker/data/png_codec.h"

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <vector>

#include <png.h>

#include "absl/strings/str_cat.h"

namespace myriad::internal {
namespace {

// Plain data only: libpng jumps back over it.
struct ReadState {
  std::jmp_buf jump;
  char message[160];
  const char* data;
  size_t left;
};

void OnReadError(png_structp png, png_const_charp message) {
  ReadState* state = static_cast<ReadState*>(png_get_error_ptr(png));
  std::strncpy(state->message, message, sizeof(state->message) - 1);
  std::longjmp(state->jump, 1);
}

void OnWarning(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep out, size_t count) {
  ReadState* state = static_cast<ReadState*>(png_get_io_ptr(png));
  if (count > state->left) png_error(png, "the file ends early");
  std::memcpy(out, state->data, count);
  state->data += count;
  state->left -= count;
}

enum class Outcome { kOk, kBroken, kTooLarge };

struct Decoded {
  int64_t width = 0;
  int64_t height = 0;
  int channels = 0;  // 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha.
  std::vector<uint8_t> pixels;
  std::vector<png_bytep> rows;
};

// Everything between setjmp and the end works on the caller's objects: nothing with a destructor lives in this frame.
Outcome Decode(png_structp png, png_infop info, int64_t max_pixels, ReadState* state, Decoded* out) {
  if (setjmp(state->jump) != 0) return Outcome::kBroken;
  png_set_read_fn(png, state, ReadBytes);
  png_read_info(png, info);
  out->width = png_get_image_width(png, info);
  out->height = png_get_image_height(png, info);
  if (out->width * out->height > max_pixels) return Outcome::kTooLarge;
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  out->channels = png_get_channels(png, info);
  const size_t stride = png_get_rowbytes(png, info);
  out->pixels.resize(stride * out->height);
  out->rows.resize(out->height);
  for (int64_t y = 0; y < out->height; ++y) out->rows[y] = out->pixels.data() + stride * y;
  png_read_image(png, out->rows.data());
  png_read_end(png, nullptr);
  return Outcome::kOk;
}

struct WriteState {
  std::jmp_buf jump;
  std::string* out;
};

void OnWriteError(png_structp png, png_const_charp) { std::longjmp(static_cast<WriteState*>(png_get_error_ptr(png))->jump, 1); }

void WriteBytes(png_structp png, png_bytep data, size_t count) {
  static_cast<WriteState*>(png_get_io_ptr(png))->out->append(reinterpret_cast<const char*>(data), count);
}

bool Encode(png_structp png, png_infop info, const Image& image, WriteState* state) {
  if (setjmp(state->jump) != 0) return false;
  png_set_write_fn(png, state, WriteBytes, [](png_structp) {});
  png_set_IHDR(png, info, image.width, image.height, 8, image.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  const size_t stride = static_cast<size_t>(image.width) * image.channels;
  for (int y = 0; y < image.height; ++y) png_write_row(png, image.pixels.data() + stride * y);
  png_write_end(png, nullptr);
  return true;
}

// Puts a picture with transparency on white.
std::vector<uint8_t> OnWhite(const Decoded& in) {
  const int colors = in.channels - 1;
  const int64_t count = in.width * in.height;
  std::vector<uint8_t> out(count * colors);
  for (int64_t i = 0; i < count; ++i) {
    const int alpha = in.pixels[i * in.channels + colors];
    for (int c = 0; c < colors; ++c) {
      out[i * colors + c] = static_cast<uint8_t>((in.pixels[i * in.channels + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<Image> DecodePng(absl::string_view bytes, int64_t max_pixels) {
  ReadState state = {};
  state.data = bytes.data();
  state.left = bytes.size();
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, OnReadError, OnWarning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    return absl::ResourceExhaustedError("libpng does not start");
  }
  Decoded decoded;
  const Outcome outcome = Decode(png, info, max_pixels, &state, &decoded);
  png_destroy_read_struct(&png, &info, nullptr);
  if (outcome == Outcome::kTooLarge) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the picture is ", decoded.width, " x ", decoded.height, "; at most ", max_pixels, " pixels are read"));
  }
  if (outcome == Outcome::kBroken) return absl::DataLossError(absl::StrCat("broken PNG file: ", state.message));
  const bool transparent = decoded.channels == 2 || decoded.channels == 4;
  Image image{static_cast<int>(decoded.width), static_cast<int>(decoded.height), decoded.channels - transparent, {}};
  image.pixels = transparent ? OnWhite(decoded) : std::move(decoded.pixels);
  return image;
}

std::string EncodePng(const Image& image) {
  std::string bytes;
  WriteState state = {};
  state.out = &bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &state, OnWriteError, OnWarning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const bool ok = info != nullptr && Encode(png, info, image, &state);
  png_destroy_write_struct(&png, info == nullptr ? nullptr : &info);
  if (!ok) bytes.clear();
  return bytes;
}

}  // namespace myriad::internal
