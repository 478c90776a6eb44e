#include "worker/data/jpeg_codec.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>

// jpeglib.h needs FILE and size_t before it.
#include <jerror.h>
#include <jpeglib.h>

#include "absl/strings/str_cat.h"

namespace myriad::internal {
namespace {

// libjpeg reports by calls into this; a fatal error jumps back to where `jump` was set. Plain data only: a jump runs no destructor.
struct ErrorState {
  jpeg_error_mgr manager;  // First: libjpeg hands back a pointer to it.
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void OnError(j_common_ptr info) {
  ErrorState* state = reinterpret_cast<ErrorState*>(info->err);
  state->manager.format_message(info, state->message);
  std::longjmp(state->jump, 1);
}

// libjpeg paints over missing or broken data with a warning; for training data that is an error. Other warnings are harmless.
void OnMessage(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC: OnError(info); break;
    default: break;
  }
}

void InitErrors(ErrorState* state) {
  jpeg_std_error(&state->manager);
  state->manager.error_exit = OnError;
  state->manager.emit_message = OnMessage;
  state->manager.output_message = [](j_common_ptr) {};
}

enum class Outcome { kOk, kBroken, kTooLarge, kCmyk };

// Everything between setjmp and the end works on the caller's objects: nothing with a destructor lives in this frame.
Outcome Decode(absl::string_view bytes, int64_t max_pixels, ErrorState* errors, jpeg_decompress_struct* info, Image* image) {
  if (setjmp(errors->jump) != 0) return Outcome::kBroken;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(info, TRUE);
  if (int64_t{info->image_width} * info->image_height > max_pixels) return Outcome::kTooLarge;
  if (info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK) return Outcome::kCmyk;
  info->out_color_space = info->jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(info);
  image->width = info->output_width;
  image->height = info->output_height;
  image->channels = info->output_components;
  const size_t stride = static_cast<size_t>(image->width) * image->channels;
  image->pixels.resize(stride * image->height);
  while (info->output_scanline < info->output_height) {
    JSAMPROW row = image->pixels.data() + stride * info->output_scanline;
    jpeg_read_scanlines(info, &row, 1);
  }
  jpeg_finish_decompress(info);
  return Outcome::kOk;
}

bool Encode(const Image& image, int quality, ErrorState* errors, jpeg_compress_struct* info, unsigned char** out, unsigned long* size) {
  if (setjmp(errors->jump) != 0) return false;
  jpeg_create_compress(info);
  jpeg_mem_dest(info, out, size);
  info->image_width = image.width;
  info->image_height = image.height;
  info->input_components = image.channels;
  info->in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(info);
  jpeg_set_quality(info, quality, TRUE);
  // Identity images are small: half the colour resolution would be too little.
  for (int c = 0; c < info->num_components; ++c) info->comp_info[c].h_samp_factor = info->comp_info[c].v_samp_factor = 1;
  jpeg_start_compress(info, TRUE);
  const size_t stride = static_cast<size_t>(image.width) * image.channels;
  while (info->next_scanline < info->image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(image.pixels.data() + stride * info->next_scanline);
    jpeg_write_scanlines(info, &row, 1);
  }
  jpeg_finish_compress(info);
  return true;
}

}  // namespace

absl::StatusOr<Image> DecodeJpeg(absl::string_view bytes, int64_t max_pixels) {
  ErrorState errors = {};
  InitErrors(&errors);
  jpeg_decompress_struct info = {};
  info.err = &errors.manager;
  Image image;
  const Outcome outcome = Decode(bytes, max_pixels, &errors, &info, &image);
  const int64_t width = info.image_width;
  const int64_t height = info.image_height;
  jpeg_destroy_decompress(&info);
  switch (outcome) {
    case Outcome::kOk: return image;
    case Outcome::kTooLarge:
      return absl::ResourceExhaustedError(
          absl::StrCat("the picture is ", width, " x ", height, "; at most ", max_pixels, " pixels are read"));
    case Outcome::kCmyk: return absl::UnimplementedError("CMYK JPEG files are not read; convert it to RGB");
    case Outcome::kBroken: break;
  }
  return absl::DataLossError(absl::StrCat("broken JPEG file: ", errors.message));
}

std::string EncodeJpeg(const Image& image, int quality) {
  ErrorState errors = {};
  InitErrors(&errors);
  jpeg_compress_struct info = {};
  info.err = &errors.manager;
  unsigned char* out = nullptr;
  unsigned long size = 0;
  const bool ok = Encode(image, quality, &errors, &info, &out, &size);
  jpeg_destroy_compress(&info);
  std::string bytes;
  if (ok) bytes.assign(reinterpret_cast<char*>(out), size);
  std::free(out);
  return bytes;
}

}  // namespace myriad::internal
