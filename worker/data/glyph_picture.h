#ifndef MYRIAD_WORKER_DATA_GLYPH_PICTURE_H_
#define MYRIAD_WORKER_DATA_GLYPH_PICTURE_H_

#include <cstdint>
#include <vector>

#include "worker/data/font_face.h"

namespace myriad {

// Draws one sample of a character, size x size grey bytes (0 black, 255 white), as it might come from print: slightly turned, slanted,
// stretched and moved; bolder or thinner; blurred; on paper of some brightness, with grain. A pure function of the arguments and the font:
// integer and IEEE arithmetic alone, so the same on every x86-64 machine. Not thread-safe; one per thread.
class GlyphPainter {
 public:
  // Requires: size in [8, 4096].
  explicit GlyphPainter(int size);

  // False (with `out` undefined) if the face shows nothing for the character.
  bool Paint(FontFace* face, uint32_t character, uint64_t key, uint8_t* out);

 private:
  void Blur(double variance);

  const int size_;
  std::vector<uint8_t> coverage_;
  std::vector<uint16_t> values_;  // Coverage x 256.
  std::vector<uint16_t> line_;
};

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_GLYPH_PICTURE_H_
