#include "worker/data/verbs.h"

#include <iostream>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "worker/data/check.h"
#include "worker/data/dataset_json.h"
#include "worker/data/glyphs.h"
#include "worker/data/pack.h"

namespace myriad {
namespace {

void AddPack(CLI::App& app, const std::atomic<bool>* stop, std::function<absl::Status()>* run) {
  CLI::App* verb = app.add_subcommand("pack", "Pack image files into the data set layout that training reads fastest");
  auto options = std::make_shared<PackOptions>();
  auto format = std::make_shared<std::string>("raw");
  options->stop = stop;
  options->results = &std::cout;
  options->progress = &std::cerr;
  verb->add_option("--src", options->source,
                   "A folder with one folder of images (JPEG, PNG) per identity, or a text file with lines of path<TAB>identity name")
      ->required();
  verb->add_option("--out", options->out, "The folder to make; must not exist")->required();
  verb->add_option("--format", *format, "How images are stored: raw is read fastest, jpeg and png are smaller")
      ->check(CLI::IsMember({"raw", "jpeg", "png"}))
      ->capture_default_str();
  verb->add_option("--size", options->image_size, "Side of the square images in pixels (default: the longer side of the first image)");
  verb->add_option("--channels", options->channels, "1 (grey) or 3 (RGB) (default: those of the first image)");
  verb->add_option("--quality", options->jpeg_quality, "Of images stored anew as JPEG, 1 to 100")->capture_default_str();
  CLI::Option* holdout =
      verb->add_option("--holdout-classes", options->holdout_classes, "Identities drawn at random for the split eval, not for training");
  verb->add_option("--pairs", options->pairs, "Verification pairs of the held-out identities, a multiple of 20")
      ->needs(holdout)
      ->capture_default_str();
  verb->add_option("--seed", options->seed, "Of the identities held out and the pairs")->capture_default_str();
  verb->add_flag("--skip-unreadable", options->skip_unreadable, "Leave out images that cannot be read, and name them");
  verb->add_option("--threads", options->threads, "Threads (default: all cores)")->check(CLI::PositiveNumber);
  verb->footer(
      "Example:\n"
      "  myriad data pack --src my/images --out runs/data/mine --size 112 --channels 3 --holdout-classes 100 --pairs 1000");
  verb->callback([options, format, run] {
    options->encoding = *ParseImageEncoding(*format);  // One of the three: checked while parsing.
    *run = [options] { return RunPack(*options); };
  });
}

void AddCheck(CLI::App& app, const std::atomic<bool>* stop, std::function<absl::Status()>* run) {
  CLI::App* verb = app.add_subcommand("check", "Read all of a data set, count it, and name every fault (exit 1 if there is one)");
  auto options = std::make_shared<CheckOptions>();
  options->stop = stop;
  options->results = &std::cout;
  options->progress = &std::cerr;
  verb->add_option("DIR", options->path, "A folder with dataset.json, or with one folder of images per identity")->required();
  verb->add_option("--threads", options->threads, "Threads (default: all cores)")->check(CLI::PositiveNumber);
  verb->footer("Example:\n  myriad data check runs/data/mine");
  verb->callback([options, run] { *run = [options] { return RunCheck(*options); }; });
}

void AddGlyphs(CLI::App& app, const std::atomic<bool>* stop, std::function<absl::Status()>* run) {
  CLI::App* verb = app.add_subcommand("glyphs", "Draw a data set of Han characters from installed fonts: each character is an identity");
  auto options = std::make_shared<GlyphsOptions>();
  auto list = std::make_shared<bool>(false);
  options->stop = stop;
  options->results = &std::cout;
  options->progress = &std::cerr;
  verb->add_option("--classes", options->classes, "Characters to train on")->capture_default_str();
  verb->add_option("--eval-classes", options->eval_classes, "Other characters, held out for verification")->capture_default_str();
  verb->add_option("--per-class", options->per_class, "Samples of each character")->capture_default_str();
  verb->add_option("--size", options->size, "Side of the square images in pixels")->capture_default_str();
  verb->add_option("--pairs", options->pairs, "Verification pairs of the held-out characters, a multiple of 20")->capture_default_str();
  CLI::Option* out = verb->add_option("--out", options->out, "The folder to make; must not exist");
  verb->add_option("--seed", options->seed, "Of everything drawn at random")->capture_default_str();
  verb->add_option("--min-designs", options->min_designs, "Least number of independent type designs of a character")->capture_default_str();
  verb->add_option(
          "--fonts", options->font_dirs,
          "Where fonts lie (default: seven designs of Debian's packages under /usr/share/fonts; with this option every known design)")
      ->type_size(1)
      ->allow_extra_args(true);
  verb->add_option("--threads", options->threads, "Threads (default: all cores; the data do not depend on it)")->check(CLI::PositiveNumber);
  CLI::Option* list_flag = verb->add_flag("--list", *list, "Print what the fonts cover, and stop");
  verb->footer("Example:\n  myriad data glyphs --out runs/data/han --classes 2000 --eval-classes 400 --per-class 10 --min-designs 5");
  verb->callback([options, list, run, out, list_flag] {
    if (out->count() == 0 && list_flag->count() == 0) throw CLI::RequiredError("--out");
    *run = [options, list] { return *list ? ListGlyphFonts(options->font_dirs, std::cout) : RunGlyphs(*options); };
  });
}

}  // namespace

void AddDataVerbs(CLI::App& app, const std::atomic<bool>* stop, std::function<absl::Status()>* run) {
  AddPack(app, stop, run);
  AddCheck(app, stop, run);
  AddGlyphs(app, stop, run);
}

}  // namespace myriad
