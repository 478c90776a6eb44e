#include "worker/data/font_face.h"

#include <cmath>
#include <cstring>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H
#include FT_BBOX_H

#include "absl/strings/str_cat.h"
#include "worker/data/file_io.h"

namespace myriad {
namespace {

// FreeType wants a library object per thread; one per face is simple and costs a few kilobytes.
class FreeTypeFace : public FontFace {
 public:
  FreeTypeFace(FT_Library library, FT_Face face) : library_(library), face_(face) {}
  ~FreeTypeFace() override {
    FT_Done_Face(face_);
    FT_Done_FreeType(library_);
  }

  int face_count() const override { return static_cast<int>(face_->num_faces); }

  std::vector<std::pair<uint32_t, uint32_t>> Characters() const override {
    std::vector<std::pair<uint32_t, uint32_t>> characters;
    if (face_->charmap == nullptr || face_->charmap->encoding != FT_ENCODING_UNICODE) return characters;
    FT_UInt glyph = 0;
    for (FT_ULong c = FT_Get_First_Char(face_, &glyph); glyph != 0; c = FT_Get_Next_Char(face_, c, &glyph)) {
      characters.emplace_back(static_cast<uint32_t>(c), glyph);
    }
    return characters;
  }

  bool Draw(uint32_t character, const GlyphPlacement& placement, int size, uint8_t* out) override {
    const FT_UInt glyph = FT_Get_Char_Index(face_, character);
    // In font units: no hinting, and the one rounding to 1/64 pixel comes after the map below.
    if (glyph == 0 || FT_Load_Glyph(face_, glyph, FT_LOAD_NO_SCALE | FT_LOAD_NO_BITMAP) != 0) return false;
    FT_Outline& outline = face_->glyph->outline;
    if (face_->glyph->format != FT_GLYPH_FORMAT_OUTLINE || outline.n_points == 0) return false;
    // Font units to 26.6 pixels, as 16.16 numbers.
    const double scale = 64.0 * size / face_->units_per_EM * 65536;
    FT_Matrix matrix;
    matrix.xx = std::lround(placement.xx * scale);
    matrix.xy = std::lround(placement.xy * scale);
    matrix.yx = std::lround(placement.yx * scale);
    matrix.yy = std::lround(placement.yy * scale);
    FT_Outline_Transform(&outline, &matrix);
    const FT_Pos bolder = std::lround(placement.bolder * size * 64);
    if (bolder != 0 && FT_Outline_Embolden(&outline, bolder) != 0) return false;
    FT_BBox box;
    if (FT_Outline_Get_BBox(&outline, &box) != 0 || box.xMin >= box.xMax || box.yMin >= box.yMax) return false;
    const FT_Pos middle_x = std::lround(placement.center_x * size * 64);
    const FT_Pos middle_y = std::lround((1 - placement.center_y) * size * 64);
    FT_Outline_Translate(&outline, middle_x - (box.xMin + box.xMax) / 2, middle_y - (box.yMin + box.yMax) / 2);
    std::memset(out, 0, static_cast<size_t>(size) * size);
    FT_Bitmap bitmap = {};
    bitmap.rows = bitmap.width = size;
    bitmap.pitch = size;  // Positive: rows from the top.
    bitmap.buffer = out;
    bitmap.num_grays = 256;
    bitmap.pixel_mode = FT_PIXEL_MODE_GRAY;
    return FT_Outline_Get_Bitmap(library_, &outline, &bitmap) == 0;
  }

 private:
  const FT_Library library_;
  const FT_Face face_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FontFace>> FontFace::Open(const std::string& path, int index) {
  if (!FileExists(path)) return absl::NotFoundError(absl::StrCat(path, ": the font file does not exist"));
  FT_Library library = nullptr;
  if (FT_Init_FreeType(&library) != 0) return absl::ResourceExhaustedError("FreeType does not start");
  FT_Face face = nullptr;
  if (const FT_Error error = FT_New_Face(library, path.c_str(), index, &face); error != 0) {
    FT_Done_FreeType(library);
    return absl::DataLossError(absl::StrCat(path, ": face ", index, " cannot be read as a font (FreeType error ", error, ")"));
  }
  return std::make_unique<FreeTypeFace>(library, face);
}

std::string FontLibraryVersion() {
  FT_Library library = nullptr;
  if (FT_Init_FreeType(&library) != 0) return "FreeType";
  FT_Int major = 0, minor = 0, patch = 0;
  FT_Library_Version(library, &major, &minor, &patch);
  FT_Done_FreeType(library);
  return absl::StrCat("FreeType ", major, ".", minor, ".", patch);
}

}  // namespace myriad
