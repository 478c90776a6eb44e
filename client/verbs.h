#ifndef MYRIAD_CLIENT_VERBS_H_
#define MYRIAD_CLIENT_VERBS_H_

#include <functional>
#include <string>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

// The verbs of the `myriad` command: each Add...() gives `app` one with its flags and help. main() parses and runs what was named.

// Exit codes (docs/formats.md). Those that a verb does not choose are main()'s.
constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitLost = 3;
constexpr int kExitInterrupted = 130;

constexpr char kServerBinaryHelp[] = "Path of myriad-server; default: the one that came with this program";

// A verb's work, set by the subcommand that was named.
struct Verb {
  std::function<absl::Status()> run;
  int data_loss_code = kExitError;  // Exit code for DATA_LOSS.
};

// `verb` outlives the parse and the work.
void AddTrain(CLI::App& app, Verb* verb);
void AddQuery(CLI::App& app, Verb* verb);
void AddBench(CLI::App& app, Verb* verb);
void AddAdmin(CLI::App& app, Verb* verb);

// `given` if it is not empty, else the program `name` that came with this one. Errors: as FindBinary.
absl::StatusOr<std::string> Sibling(const std::string& given, const std::string& package, const std::string& name);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_VERBS_H_
