#ifndef MYRIAD_WORKER_DATA_FONT_FACE_H_
#define MYRIAD_WORKER_DATA_FONT_FACE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace myriad {

// How a character is laid on a square picture: fitted to the pixel grid of an em of `em_pixels` (hinting: thin strokes get a whole pixel,
// as in print and on screens of that size), then mapped and moved as an outline. Lengths are parts of the picture's side.
struct GlyphPlacement {
  int em_pixels = 32;  // In [4, 4096].
  // The linear map before moving, y up; the identity leaves the em at em_pixels.
  double xx = 1, xy = 0, yx = 0, yy = 1;
  double bolder = 0;                      // Growth of every stroke; negative: thinner.
  double center_x = 0.5, center_y = 0.5;  // Where the middle of the ink goes, from the upper left.
};

// One face of a font file, read by FreeType. Not thread-safe; several faces are independent of each other.
class FontFace {
 public:
  // Errors: NOT_FOUND; DATA_LOSS if the file is no font or has no face of this index. Both start with the path.
  static absl::StatusOr<std::unique_ptr<FontFace>> Open(const std::string& path, int index);
  virtual ~FontFace() = default;

  // Faces in the file. >= 1.
  virtual int face_count() const = 0;
  // All (character, number of its glyph) of the Unicode map, characters rising. Empty if there is no such map.
  virtual std::vector<std::pair<uint32_t, uint32_t>> Characters() const = 0;
  // Draws a character: out[y * size + x] is the covered part of the pixel, 255 for all of it. Returns false (and draws nothing) if the face
  // has no outline of it or an empty one. Size in [8, 4096].
  virtual bool Draw(uint32_t character, const GlyphPlacement& placement, int size, uint8_t* out) = 0;
};

// The version of the library that draws: with the font files and the arguments it settles the bytes.
std::string FontLibraryVersion();

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_FONT_FACE_H_
