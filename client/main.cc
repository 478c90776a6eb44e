// myriad: starts training runs on one machine, reads heads, measures; hands the verbs on images to myriad-worker, those on a store to
// myriad-server.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/verbs.h"
#include "version.h"

namespace {

// Verbs that another program of ours has: `group` `verb` and all that follows, --help included, goes to it unread.
struct OthersVerb {
  const char* group;
  const char* verb;
  const char* package;  // Of the program, and its name.
  const char* program;
  const char* own_name;   // What the program then calls itself.
  const char* own_first;  // The verb there.
};
constexpr OthersVerb kOthersVerbs[] = {
    {"data", "pack", "worker", "myriad-worker", "myriad data", "pack"},
    {"data", "check", "worker", "myriad-worker", "myriad data", "check"},
    {"data", "glyphs", "worker", "myriad-worker", "myriad data", "glyphs"},
    {"bench", "store", "server", "myriad-server", "myriad bench store", "bench-store"},
};

const OthersVerb* FindOthersVerb(int argc, char** argv) {
  if (argc < 3) return nullptr;
  const auto found = std::find_if(std::begin(kOthersVerbs), std::end(kOthersVerbs), [&](const OthersVerb& verb) {
    return std::strcmp(argv[1], verb.group) == 0 && std::strcmp(argv[2], verb.verb) == 0;
  });
  return found == std::end(kOthersVerbs) ? nullptr : found;
}

// Returns only on an error.
absl::Status Exec(const OthersVerb& verb, int argc, char** argv) {
  const absl::StatusOr<std::string> program = myriad::Sibling("", verb.package, verb.program);
  if (!program.ok()) return program.status();
  const std::string& path = *program;
  std::string name = verb.own_name;
  std::string first = verb.own_first;
  std::vector<char*> arguments = {name.data(), first.data()};
  arguments.insert(arguments.end(), argv + 3, argv + argc);
  arguments.push_back(nullptr);
  ::execv(path.c_str(), arguments.data());
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
}

void AddData(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Makes and checks image data sets (runs myriad-worker)");
  data->add_subcommand("pack", "Packs images into a data set: from one folder per identity, or a TSV of path and identity name");
  data->add_subcommand("check", "Reads a data set through and tells what is wrong with it");
  data->add_subcommand("glyphs", "Renders Han characters from installed fonts: a data set for a first run");
  data->require_subcommand(0, 1);
  data->footer("Each has its own help: myriad data pack --help");
}

int Report(const absl::Status& status, int data_loss_code) {
  std::cout.flush();
  if (status.ok()) {
    if (std::cout.good()) return 0;
    std::fprintf(stderr, "myriad: cannot write the output\n");
    return myriad::kExitError;
  }
  const std::string message(status.message());
  std::fprintf(stderr, "myriad: %s%s", message.c_str(), !message.empty() && message.back() == '\n' ? "" : "\n");
  if (absl::IsCancelled(status)) return myriad::kExitInterrupted;
  return absl::IsDataLoss(status) ? data_loss_code : myriad::kExitError;
}

int Run(int argc, char** argv) {
  if (const OthersVerb* verb = FindOthersVerb(argc, argv)) return Report(Exec(*verb, argc, argv), myriad::kExitError);
  CLI::App app("Trains embedding models over huge sets of identities: class centers on servers, images at workers.", "myriad");
  app.set_version_flag("--version", absl::StrCat("myriad ", myriad::kVersion));
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) { return absl::StrCat("myriad: ", error.what(), "; see --help\n"); });
  app.footer("Each command has its own help with an example: myriad train --help");
  myriad::Verb verb;
  myriad::AddTrain(app, &verb);
  AddData(app);
  myriad::AddQuery(app, &verb);
  myriad::AddAdmin(app, &verb);
  myriad::AddBench(app, &verb);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : myriad::kExitUsage;
  }
  if (!verb.run) {
    const std::vector<CLI::App*> named = app.get_subcommands();
    const std::string command = named.empty() ? "myriad" : absl::StrCat("myriad ", named.front()->get_name());
    std::fprintf(stderr, "myriad: say what to do; %s --help lists the commands\n", command.c_str());
    return myriad::kExitUsage;
  }
  return Report(verb.run(), verb.data_loss_code);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {  // For want of memory, mostly.
    return Report(absl::InternalError(error.what()), myriad::kExitError);
  }
}
