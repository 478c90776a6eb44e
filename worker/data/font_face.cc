#include "worker/data/font_face.h"

#include <cmath>
#include <cstring>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H
#include FT_BBOX_H
#include FT_DRIVER_H
#include FT_MODULE_H

#include "absl/strings/str_cat.h"
#include "worker/data/file_io.h"

namespace myriad {
namespace {

// What FreeType would otherwise take from the environment (FREETYPE_PROPERTIES) is set to its defaults: it changes shapes. A null library
// if it does not start.
FT_Library StartLibrary() {
  FT_Library library = nullptr;
  if (FT_Init_FreeType(&library) != 0) return nullptr;
  FT_UInt interpreter = TT_INTERPRETER_VERSION_40;
  FT_Property_Set(library, "truetype", "interpreter-version", &interpreter);
  FT_Bool no_stem_darkening = 1;
  for (const char* module : {"cff", "autofitter"}) FT_Property_Set(library, module, "no-stem-darkening", &no_stem_darkening);
  return library;
}

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
    if (placement.em_pixels != em_pixels_) {
      if (FT_Set_Pixel_Sizes(face_, 0, placement.em_pixels) != 0) return false;
      em_pixels_ = placement.em_pixels;
    }
    const FT_UInt glyph = FT_Get_Char_Index(face_, character);
    if (glyph == 0 || FT_Load_Glyph(face_, glyph, FT_LOAD_DEFAULT | FT_LOAD_NO_BITMAP) != 0) return false;
    FT_Outline& outline = face_->glyph->outline;
    if (face_->glyph->format != FT_GLYPH_FORMAT_OUTLINE || outline.n_points == 0) return false;
    const auto fixed = [](double value) { return static_cast<FT_Fixed>(std::lround(value * 65536)); };
    FT_Matrix matrix = {fixed(placement.xx), fixed(placement.xy), fixed(placement.yx), fixed(placement.yy)};
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
  int em_pixels_ = 0;  // As last set on face_.
};

}  // namespace

absl::StatusOr<std::unique_ptr<FontFace>> FontFace::Open(const std::string& path, int index) {
  if (!FileExists(path)) return absl::NotFoundError(absl::StrCat(path, ": the font file does not exist"));
  const FT_Library library = StartLibrary();
  if (library == nullptr) return absl::ResourceExhaustedError("FreeType does not start");
  FT_Face face = nullptr;
  if (const FT_Error error = FT_New_Face(library, path.c_str(), index, &face); error != 0) {
    FT_Done_FreeType(library);
    return absl::DataLossError(absl::StrCat(path, ": face ", index, " cannot be read as a font (FreeType error ", error, ")"));
  }
  return std::make_unique<FreeTypeFace>(library, face);
}

std::string FontLibraryVersion() {
  const FT_Library library = StartLibrary();
  if (library == nullptr) return "FreeType";
  FT_Int major = 0, minor = 0, patch = 0;
  FT_Library_Version(library, &major, &minor, &patch);
  FT_Done_FreeType(library);
  return absl::StrCat("FreeType ", major, ".", minor, ".", patch);
}

}  // namespace myriad
