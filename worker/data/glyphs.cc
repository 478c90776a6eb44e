#include "worker/data/glyphs.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "head/keyed_permutation.h"
#include "worker/data/dataset_writer.h"
#include "worker/data/font_face.h"
#include "worker/data/glyph_picture.h"
#include "worker/data/han_fonts.h"
#include "worker/data/pairs.h"
#include "worker/data/parallel.h"
#include "worker/data/progress.h"
#include "worker/data/random.h"

namespace myriad {
namespace {

absl::Status OutOfRange(const char* option, int64_t value, const std::string& range) {
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, "; ", range, " is needed"));
}

absl::Status ValidateOptions(const GlyphsOptions& options) {
  if (options.classes < 1) return OutOfRange("classes", options.classes, "a number >= 1");
  if (options.eval_classes < 0 || options.eval_classes == 1) return OutOfRange("eval-classes", options.eval_classes, "0 or a number >= 2");
  const int64_t least = options.eval_classes > 0 ? 2 : 1;
  if (options.per_class < least || options.per_class > 10000) {
    return OutOfRange("per-class", options.per_class, absl::StrCat("a number in [", least, ", 10000]"));
  }
  if (options.size < 8 || options.size > 1024) return OutOfRange("size", options.size, "a number in [8, 1024]");
  if (options.min_designs < 1) return OutOfRange("min-designs", options.min_designs, "a number >= 1");
  return absl::OkStatus();
}

// The characters taken, rising, and which of them are held out.
struct Chosen {
  std::vector<uint32_t> train;
  std::vector<uint32_t> eval;
};

absl::StatusOr<Chosen> ChooseCharacters(const HanFonts& fonts, const GlyphsOptions& options) {
  std::vector<std::pair<int, uint32_t>> usable;  // (-designs, character): sorted, most designs come first.
  for (const auto& [character, faces] : fonts.faces_of) {
    const int designs = fonts.DesignCount(faces);
    if (designs >= options.min_designs) usable.emplace_back(-designs, character);
  }
  const int64_t wanted = options.classes + options.eval_classes;
  if (wanted > static_cast<int64_t>(usable.size())) {
    return absl::InvalidArgumentError(absl::StrCat("classes + eval-classes is ", wanted, ", but only ", usable.size(),
                                                   " characters stand in ", options.min_designs, " or more designs of the fonts found"));
  }
  std::sort(usable.begin(), usable.end());
  const KeyedPermutation order(wanted, MixKey(options.seed, 0x68656C64));
  Chosen chosen;
  for (int64_t place = 0; place < wanted; ++place) {
    (place < options.eval_classes ? chosen.eval : chosen.train).push_back(usable[order.At(place)].second);
  }
  std::sort(chosen.train.begin(), chosen.train.end());
  std::sort(chosen.eval.begin(), chosen.eval.end());
  return chosen;
}

template <typename T>
void Shuffle(KeyedRandom& random, std::vector<T>* list) {
  for (size_t i = list->size(); i > 1; --i) std::swap((*list)[i - 1], (*list)[random.Below(i)]);
}

// The faces that show a class, in the order in which its samples use them: the designs at random, then again in other faces.
class FaceOrder {
 public:
  FaceOrder(const HanFonts& fonts, uint32_t character, uint64_t key) {
    std::map<int, std::vector<int>> by_design;
    for (const int face : fonts.faces_of.at(character)) by_design[fonts.faces[face].design].push_back(face);
    KeyedRandom random(key);
    for (auto& [design, faces] : by_design) {
      Shuffle(random, &faces);
      designs_.push_back(std::move(faces));
    }
    Shuffle(random, &designs_);
  }
  int64_t face_count() const {
    int64_t count = 0;
    for (const std::vector<int>& faces : designs_) count += faces.size();
    return count;
  }
  int Next() {
    const std::vector<int>& faces = designs_[next_ % designs_.size()];
    const int face = faces[next_ / designs_.size() % faces.size()];
    ++next_;
    return face;
  }

 private:
  std::vector<std::vector<int>> designs_;
  size_t next_ = 0;
};

std::string CharacterName(uint32_t character) { return absl::StrFormat("U+%04X", character); }

// What one thread draws with: fonts are opened when first needed.
class ThreadPainter {
 public:
  ThreadPainter(const HanFonts& fonts, const GlyphsOptions& options)
      : fonts_(fonts), options_(options), faces_(fonts.faces.size()), painter_(options.size) {}

  // All samples of a class, one after the other.
  absl::Status PaintClass(uint32_t character, uint8_t* out) {
    const uint64_t key = MixKey(MixKey(options_.seed, 0x676C797068), character);
    FaceOrder order(fonts_, character, MixKey(key, UINT64_MAX - 1));
    const int64_t image_bytes = int64_t{options_.size} * options_.size;
    for (int64_t sample = 0; sample < options_.per_class; ++sample) {
      bool painted = false;
      // A face may map a character to an empty glyph: then the next one shows it. Enough tries to have seen every face.
      for (int64_t tries = order.face_count() * static_cast<int64_t>(fonts_.designs.size()); !painted && tries > 0; --tries) {
        absl::StatusOr<FontFace*> face = Face(order.Next());
        if (!face.ok()) return face.status();
        painted = painter_.Paint(*face, character, MixKey(key, sample), out + sample * image_bytes);
      }
      if (!painted) return absl::DataLossError(absl::StrCat(CharacterName(character), " is empty in every font that lists it"));
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<FontFace*> Face(int number) {
    if (faces_[number] == nullptr) {
      absl::StatusOr<std::unique_ptr<FontFace>> face = FontFace::Open(fonts_.faces[number].path, fonts_.faces[number].index);
      if (!face.ok()) return face.status();
      faces_[number] = *std::move(face);
    }
    return faces_[number].get();
  }

  const HanFonts& fonts_;
  const GlyphsOptions& options_;
  std::vector<std::unique_ptr<FontFace>> faces_;
  GlyphPainter painter_;
};

absl::Status WriteSplit(const HanFonts& fonts, const GlyphsOptions& options, const std::string& split,
                        const std::vector<uint32_t>& characters, std::vector<std::unique_ptr<ThreadPainter>>* painters,
                        DatasetWriter* writer) {
  std::vector<std::string> names;
  for (const uint32_t character : characters) names.push_back(CharacterName(character));
  if (absl::Status status = writer->AddSplit(split, names); !status.ok()) return status;
  const int64_t class_count = characters.size();
  const int64_t image_bytes = int64_t{options.size} * options.size;
  // Classes drawn side by side before they are written in order: about 64 MB.
  const int64_t chunk = std::clamp<int64_t>((64 << 20) / (image_bytes * options.per_class), 1, class_count);
  std::vector<uint8_t> pixels(chunk * options.per_class * image_bytes);
  Progress progress(options.progress, absl::StrCat(split, ": drew"), "classes", class_count);
  for (int64_t start = 0; start < class_count; start += chunk) {
    const int64_t count = std::min(chunk, class_count - start);
    absl::Status status = ParallelFor(count, painters->size(), [&](int64_t i, int thread) -> absl::Status {
      if (options.stop != nullptr && options.stop->load()) return absl::CancelledError("interrupted; nothing was written");
      if ((*painters)[thread] == nullptr) (*painters)[thread] = std::make_unique<ThreadPainter>(fonts, options);
      return (*painters)[thread]->PaintClass(characters[start + i], &pixels[i * options.per_class * image_bytes]);
    });
    for (int64_t i = 0; i < count * options.per_class && status.ok(); ++i) {
      const auto* image = reinterpret_cast<const char*>(&pixels[i * image_bytes]);
      status = writer->AddImage(split, start + i / options.per_class, absl::string_view(image, image_bytes));
    }
    if (!status.ok()) return status;
    progress.Update(start + count);
  }
  return absl::OkStatus();
}

std::string GlyphsJson(const HanFonts& fonts, const GlyphsOptions& options) {
  nlohmann::ordered_json root;
  root["version"] = 1;
  root["classes"] = options.classes;
  root["eval_classes"] = options.eval_classes;
  root["per_class"] = options.per_class;
  root["size"] = options.size;
  root["pairs"] = options.eval_classes > 0 ? options.pairs : 0;
  root["seed"] = options.seed;
  root["min_designs"] = options.min_designs;
  root["renderer"] = FontLibraryVersion();
  std::set<int> designs;
  for (const HanFonts::Face& face : fonts.faces) designs.insert(face.design);
  for (const int design : designs) root["designs"].push_back(fonts.designs[design]);
  root["fonts_xxh3_128"] = fonts.file_hashes;
  return root.dump(2) + "\n";
}

}  // namespace

absl::Status RunGlyphs(const GlyphsOptions& options) {
  if (absl::Status status = ValidateOptions(options); !status.ok()) return status;
  const absl::StatusOr<HanFonts> fonts = FindHanFonts(options.font_dirs);
  if (!fonts.ok()) return fonts.status();
  const absl::StatusOr<Chosen> chosen = ChooseCharacters(*fonts, options);
  if (!chosen.ok()) return chosen.status();
  absl::StatusOr<std::unique_ptr<DatasetWriter>> writer =
      DatasetWriter::Create(options.out, options.size, /*channels=*/1, ImageEncoding::kRaw);
  if (!writer.ok()) return writer.status();
  std::vector<VerificationPair> pairs;
  if (options.eval_classes > 0) {
    // Labels of the split to come; a wrong number of pairs is told before anything is drawn.
    std::vector<int64_t> labels(options.eval_classes * options.per_class);
    for (size_t i = 0; i < labels.size(); ++i) labels[i] = i / options.per_class;
    absl::StatusOr<std::vector<VerificationPair>> drawn = DrawPairs(labels, options.pairs, options.seed);
    if (!drawn.ok()) return drawn.status();
    pairs = *std::move(drawn);
  }
  std::vector<std::unique_ptr<ThreadPainter>> painters(options.threads > 0 ? options.threads : CoreCount());
  absl::Status status = WriteSplit(*fonts, options, "train", chosen->train, &painters, writer->get());
  if (status.ok() && options.eval_classes > 0) status = WriteSplit(*fonts, options, "eval", chosen->eval, &painters, writer->get());
  if (status.ok() && options.eval_classes > 0) status = (*writer)->SetPairs("eval", pairs);
  if (status.ok()) status = (*writer)->AddFile("glyphs.json", GlyphsJson(*fonts, options));
  if (status.ok()) status = (*writer)->Finish();
  if (!status.ok() || options.results == nullptr) return status;
  *options.results << options.out << ": train " << options.classes << " characters x " << options.per_class << ", eval "
                   << options.eval_classes << " other characters, " << pairs.size() << " pairs; " << options.size << " x " << options.size
                   << " x 1 raw\n";
  return absl::OkStatus();
}

absl::Status ListGlyphFonts(const std::vector<std::string>& font_dirs, std::ostream& out) {
  const absl::StatusOr<HanFonts> fonts = FindHanFonts(font_dirs);
  if (!fonts.ok()) return fonts.status();
  std::map<int, std::set<std::string>> files;
  for (const HanFonts::Face& face : fonts->faces) files[face.design].insert(std::filesystem::path(face.path).filename().string());
  std::map<int, int64_t> characters_of_design;
  std::map<int, int64_t> characters_by_designs;
  for (const auto& [character, faces] : fonts->faces_of) {
    std::set<int> designs;
    for (const int face : faces) designs.insert(fonts->faces[face].design);
    for (const int design : designs) ++characters_of_design[design];
    ++characters_by_designs[designs.size()];
  }
  for (const auto& [design, count] : characters_of_design) {
    out << absl::StrFormat("%-12s %6d characters ", fonts->designs[design], count);
    for (const std::string& file : files[design]) out << " " << file;
    out << "\n";
  }
  int64_t at_least = 0;
  for (auto it = characters_by_designs.rbegin(); it != characters_by_designs.rend(); ++it) {
    at_least += it->second;
    out << absl::StrFormat("in %2d or more designs: %6d characters\n", it->first, at_least);
  }
  return absl::OkStatus();
}

}  // namespace myriad
