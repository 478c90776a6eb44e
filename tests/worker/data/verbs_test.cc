#include "worker/data/verbs.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "tests/worker/data/test_images.h"

namespace myriad {
namespace {

// Parses `line` and runs the verb; INVALID_ARGUMENT "usage" for a line that does not parse.
absl::Status RunLine(const std::string& line) {
  CLI::App app("test");
  app.require_subcommand(1);
  const std::atomic<bool> stop{false};
  std::function<absl::Status()> run;
  AddDataVerbs(app, &stop, &run);
  try {
    app.parse(line);
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(std::string("usage: ") + error.what());
  }
  return run();
}

TEST(VerbsTest, PackAndCheckRunFromTheCommandLine) {
  const TempDir dir;
  WriteImageTree(dir.File("t"), 8, 4, 10, 3);
  const absl::Status packed = RunLine("pack --src " + dir.File("t") + " --out " + dir.File("d") +
                                      " --format png --size 8 --channels 1 --holdout-classes 3 --pairs 20 --seed 4 --threads 2");
  ASSERT_TRUE(packed.ok()) << packed;
  EXPECT_TRUE(std::filesystem::exists(dir.File("d/eval.pairs.tsv")));
  EXPECT_TRUE(RunLine("check " + dir.File("d")).ok());
  EXPECT_EQ(RunLine("check " + dir.File("none")).code(), absl::StatusCode::kNotFound);
}

TEST(VerbsTest, GlyphsTakeFoldersOfFontsOrListThem) {
  const TempDir dir;
  const absl::Status status = RunLine("glyphs --classes 5 --out " + dir.File("d") + " --fonts " + dir.path());
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_EQ(RunLine("glyphs --list --fonts " + dir.path()).code(), absl::StatusCode::kNotFound);
}

TEST(VerbsTest, LinesThatDoNotParseRunNothing) {
  for (const char* line : {"", "pack", "pack --src a", "pack --src a --out b --format gif", "pack --src a --out b --pairs 20", "glyphs",
                           "check", "check a --threads 0", "pack --src a --out b --unknown"}) {
    EXPECT_EQ(RunLine(line).message().substr(0, 5), "usage") << line;
  }
}

}  // namespace
}  // namespace myriad
