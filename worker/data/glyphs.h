#ifndef MYRIAD_WORKER_DATA_GLYPHS_H_
#define MYRIAD_WORKER_DATA_GLYPHS_H_

#include <atomic>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace myriad {

// `glyphs`: a data set of Han characters drawn from installed fonts. One class = one ideograph, its samples = type designs and distortions.
struct GlyphsOptions {
  int64_t classes = 2000;    // In the split "train". >= 1.
  int64_t eval_classes = 0;  // Held out, in the split "eval". 0, or >= 2.
  int64_t per_class = 10;    // Samples of each. In [1, 10000]; >= 2 with eval classes.
  int size = 48;             // Side in pixels. In [8, 1024].
  int64_t pairs = 6000;      // Verification pairs; a multiple of 20.
  uint64_t seed = 1;
  int min_designs = 3;                      // Least number of independent designs that a character must have.
  std::vector<std::string> font_dirs;       // See FindHanFonts.
  std::string out;                          // The new folder.
  int threads = 0;                          // 0: all cores. The output does not depend on it.
  const std::atomic<bool>* stop = nullptr;  // Set: ends with CANCELLED. May be null.
  std::ostream* results = nullptr;          // Borrowed. May be null.
  std::ostream* progress = nullptr;         // Borrowed. May be null.
};

// Writes the data set in the dataset.json layout (raw, 1 channel), or nothing; glyphs.json beside it has the arguments, the fonts' hashes
// and FreeType's version, from which alone the bytes follow. Characters with the most designs come first (then by code point); held-out
// ones are drawn at random from those taken. Labels rise with the code point; an identity is called U+4E00. The samples of a class go
// through its designs in a random order, and start over in other faces of them. Errors: INVALID_ARGUMENT for options out of range, or more
// classes than the fonts have characters; NOT_FOUND naming the Debian packages to install; ALREADY_EXISTS if `out` is there; CANCELLED.
absl::Status RunGlyphs(const GlyphsOptions& options);

// Prints what the fonts cover: characters of each design, and characters by least number of designs. Errors: as FindHanFonts.
absl::Status ListGlyphFonts(const std::vector<std::string>& font_dirs, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_GLYPHS_H_
