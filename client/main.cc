// myriad: starts training runs on one machine, reads heads, measures; hands the verbs on images to myriad-worker.

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

// Hands all further arguments to myriad-worker, --help included, before they are parsed here. Returns only on an error.
absl::Status ExecDataVerb(int argc, char** argv) {
  const absl::StatusOr<std::string> worker = myriad::Sibling("", "worker", "myriad-worker");
  if (!worker.ok()) return worker.status();
  const std::string& path = *worker;
  std::string name = "myriad data";  // What myriad-worker then calls itself.
  std::vector<char*> arguments = {name.data()};
  arguments.insert(arguments.end(), argv + 2, argv + argc);
  arguments.push_back(nullptr);
  ::execv(path.c_str(), arguments.data());
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(errno)));
}

constexpr const char* kDataVerbs[] = {"pack", "check", "glyphs"};

bool IsDataVerb(int argc, char** argv) {
  if (argc < 3 || std::strcmp(argv[1], "data") != 0) return false;
  return std::any_of(std::begin(kDataVerbs), std::end(kDataVerbs), [&](const char* verb) { return std::strcmp(argv[2], verb) == 0; });
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
  if (IsDataVerb(argc, argv)) return Report(ExecDataVerb(argc, argv), myriad::kExitError);
  CLI::App app("Trains embedding models over huge sets of identities: class centers on servers, images at workers.", "myriad");
  app.set_version_flag("--version", absl::StrCat("myriad ", myriad::kVersion));
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) { return absl::StrCat("myriad: ", error.what(), "; see --help\n"); });
  app.footer("Each command has its own help with an example: myriad train --help");
  myriad::Verb verb;
  myriad::AddTrain(app, &verb);
  AddData(app);
  myriad::AddQuery(app, &verb);
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
