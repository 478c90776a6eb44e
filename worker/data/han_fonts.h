#ifndef MYRIAD_WORKER_DATA_HAN_FONTS_H_
#define MYRIAD_WORKER_DATA_HAN_FONTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace myriad {

// The installed fonts that show Han characters, by independent type design: relabelled copies of one drawing would make verification easier
// than it is.
struct HanFonts {
  struct Face {
    int design = 0;  // Index into designs.
    std::string path;
    int index = 0;  // Of the face in its file.
  };
  std::vector<std::string> designs;
  std::vector<Face> faces;
  // CJK unified ideograph -> faces that draw it, rising. Faces of one file that show a character with the same glyph count once.
  std::map<uint32_t, std::vector<int>> faces_of;
  std::map<std::string, std::string> file_hashes;  // File name -> XXH3-128 of its bytes, hexadecimal.

  int DesignCount(const std::vector<int>& faces_of_character) const;
};

// Unified ideographs with all extensions. Compatibility ideographs are none: each looks like another character.
bool IsUnifiedIdeograph(uint32_t character);

// Finds the fonts. Without `dirs`: the default ones below /usr/share/fonts, all of which must be there, so that everybody draws the same.
// With `dirs`: whatever known design lies below them (of files with the same name, the first in byte order of the path).
// Errors: NOT_FOUND naming the packages to install; DATA_LOSS for a font file that cannot be read.
absl::StatusOr<HanFonts> FindHanFonts(const std::vector<std::string>& dirs);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_HAN_FONTS_H_
