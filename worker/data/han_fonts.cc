#include "worker/data/han_fonts.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include <xxhash.h>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/file_util.h"
#include "worker/data/font_face.h"

namespace myriad {
namespace {

constexpr char kSystemFonts[] = "/usr/share/fonts";

struct Design {
  const char* name;
  const char* package;             // Of Debian.
  bool by_default;                 // The light set.
  std::vector<const char*> stems;  // File names without extension.
};

const std::vector<Design>& KnownDesigns() {
  static const auto& designs = *new std::vector<Design>{
      {"hanamin", "fonts-hanazono", true, {"HanaMinA", "HanaMinB"}},
      {"babelstone", "fonts-babelstone-han", true, {"BabelStoneHan"}},
      {"wqy-zenhei", "fonts-wqy-zenhei", true, {"wqy-zenhei"}},
      {"droid", "fonts-droid-fallback", true, {"DroidSansFallbackFull"}},
      {"uming", "fonts-arphic-uming", true, {"uming"}},
      {"ukai", "fonts-arphic-ukai", true, {"ukai"}},
      {"unifont", "fonts-unifont", true, {"unifont", "unifont_jp"}},
      {"noto-sans", "fonts-noto-cjk", false, {"NotoSansCJK-Regular", "NotoSansCJK-Bold"}},
      {"noto-serif", "fonts-noto-cjk", false, {"NotoSerifCJK-Regular", "NotoSerifCJK-Bold"}},
      {"tw-kai", "fonts-cns11643-kai", false, {"TW-Kai-98_1", "TW-Kai-Ext-B-98_1"}},
      {"tw-sung", "fonts-cns11643-sung", false, {"TW-Sung-98_1", "TW-Sung-Ext-B-98_1"}},
      {"ipamj", "fonts-ipamj-mincho", false, {"ipamjm"}},
  };
  return designs;
}

// The design that a font file belongs to, or -1.
int DesignOf(const std::filesystem::path& path, bool light_only) {
  const std::string extension = absl::AsciiStrToLower(path.extension().string());
  if (extension != ".ttf" && extension != ".ttc" && extension != ".otf" && extension != ".otc") return -1;
  const std::string stem = path.stem().string();
  for (size_t d = 0; d < KnownDesigns().size(); ++d) {
    const Design& design = KnownDesigns()[d];
    if (light_only && !design.by_default) continue;
    if (std::find(design.stems.begin(), design.stems.end(), stem) != design.stems.end()) return static_cast<int>(d);
  }
  return -1;
}

// Font files of known designs below `dirs`, by file name without extension: where a font comes in two formats, one is taken.
std::map<std::string, std::string> FindFiles(const std::vector<std::string>& dirs, bool light_only) {
  std::map<std::string, std::string> files;
  for (const std::string& dir : dirs) {
    std::error_code error;
    const auto options = std::filesystem::directory_options::skip_permission_denied;
    for (std::filesystem::recursive_directory_iterator it(dir, options, error), end; !error && it != end; it.increment(error)) {
      if (DesignOf(it->path(), light_only) < 0) continue;
      std::string& path = files[it->path().stem().string()];
      if (path.empty() || it->path().string() < path) path = it->path().string();
    }
  }
  return files;
}

absl::Status AddFile(const std::string& path, int design, HanFonts* fonts) {
  const absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  const XXH128_hash_t hash = XXH3_128bits(bytes->data(), bytes->size());
  fonts->file_hashes[std::filesystem::path(path).filename().string()] = absl::StrFormat("%016x%016x", hash.high64, hash.low64);
  absl::flat_hash_set<std::pair<uint32_t, uint32_t>> seen;
  int face_count = 1;
  for (int index = 0; index < face_count; ++index) {
    const absl::StatusOr<std::unique_ptr<FontFace>> face = FontFace::Open(path, index);
    if (!face.ok()) return face.status();
    face_count = (*face)->face_count();
    bool fresh = false;
    for (const auto& character : (*face)->Characters()) {
      if (!IsUnifiedIdeograph(character.first) || !seen.insert(character).second) continue;
      fonts->faces_of[character.first].push_back(fonts->faces.size());
      fresh = true;
    }
    if (fresh) fonts->faces.push_back({design, path, index});
  }
  return absl::OkStatus();
}

std::string Packages(const std::vector<int>& designs) {
  std::vector<std::string> names;
  for (const int d : designs) {
    const std::string name = KnownDesigns()[d].package;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return absl::StrJoin(names, " ");
}

std::vector<int> DefaultDesigns() {
  std::vector<int> designs;
  for (size_t d = 0; d < KnownDesigns().size(); ++d) {
    if (KnownDesigns()[d].by_default) designs.push_back(d);
  }
  return designs;
}

}  // namespace

int HanFonts::DesignCount(const std::vector<int>& faces_of_character) const {
  uint64_t seen = 0;
  for (const int face : faces_of_character) seen |= uint64_t{1} << faces[face].design;
  return __builtin_popcountll(seen);
}

bool IsUnifiedIdeograph(uint32_t c) {
  static constexpr uint32_t kBlocks[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0x20000, 0x2A6DF},
                                            {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF},
                                            {0x2CEB0, 0x2EBEF}, {0x30000, 0x3134F}, {0x31350, 0x323AF}};
  return std::any_of(std::begin(kBlocks), std::end(kBlocks), [c](const uint32_t* block) { return c >= block[0] && c <= block[1]; });
}

absl::StatusOr<HanFonts> FindHanFonts(const std::vector<std::string>& dirs) {
  const bool by_default = dirs.empty();
  const std::vector<std::string> where = by_default ? std::vector<std::string>{kSystemFonts} : dirs;
  const std::map<std::string, std::string> files = FindFiles(where, by_default);
  HanFonts fonts;
  for (const Design& design : KnownDesigns()) fonts.designs.push_back(design.name);
  std::set<int> found;
  for (const auto& [stem, path] : files) {
    const int design = DesignOf(path, by_default);
    if (absl::Status status = AddFile(path, design, &fonts); !status.ok()) return status;
    found.insert(design);
  }
  std::vector<int> missing;
  for (const int d : DefaultDesigns()) {
    if (found.count(d) == 0) missing.push_back(d);
  }
  if ((by_default && !missing.empty()) || found.empty()) {
    return absl::NotFoundError(
        absl::StrCat("fonts of Han characters are missing below ", absl::StrJoin(where, ", "), ": apt-get install ", Packages(missing)));
  }
  return fonts;
}

}  // namespace myriad
