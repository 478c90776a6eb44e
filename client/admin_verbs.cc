#include <signal.h>

#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/admin_servers.h"
#include "client/export_rows.h"
#include "client/grow_head.h"
#include "client/import_rows.h"
#include "client/progress.h"
#include "client/run_shards.h"
#include "client/stop_signals.h"
#include "client/verbs.h"

namespace myriad {
namespace {

constexpr char kHeadHelp[] = "Name of the head; needed where there are several";

// What every verb on servers has.
struct ServerFlags {
  std::string shards, run_dir, store, memory, server_binary;
  double timeout_seconds = 60;

  void Add(CLI::App* verb, const char* run_help) {
    auto* named = verb->add_option("--shards", shards, "All servers of the head: host:port,host:port");
    auto* run = verb->add_option("--run", run_dir, run_help)->excludes(named);
    auto* stored = verb->add_option("--store", store,
                                    "Folder of shard-0, shard-1, ... that a run on this machine left: servers are started over it, and "
                                    "stopped afterwards")
                       ->excludes(named)
                       ->excludes(run);
    verb->add_option("--memory", memory, "Memory of each server that is started, as 2GiB; no limit by default")->needs(stored);
    verb->add_option("--server-binary", server_binary, kServerBinaryHelp)->needs(stored);
    verb->add_option("--timeout", timeout_seconds, "Seconds that a server may take to answer a call, or over a message of a stream")
        ->check(CLI::Range(0.001, 86400.0))
        ->capture_default_str();
  }

  // Finishes the options of a verb and does it on the servers.
  template <typename Options>
  absl::Status Run(Options options, absl::Status (*verb)(const Options& options, std::ostream& out)) const {
    Finish(&options);
    AdminServers servers;
    servers.shards = absl::StrSplit(shards, ',', absl::SkipEmpty());
    servers.run_dir = run_dir;
    servers.store = store;
    servers.memory = memory;
    servers.should_stop = options.should_stop;
    if (!store.empty()) {
      absl::StatusOr<std::string> server = Sibling(server_binary, "server", "myriad-server");
      if (!server.ok()) return server.status();
      servers.server_binary = *std::move(server);
    }
    return OnServers(servers, [&](const std::vector<std::string>& addresses) {
      options.shards = addresses;
      return verb(options, std::cout);
    });
  }
  template <typename Options>
  void Finish(Options* options) const {
    options->timeout = absl::Seconds(timeout_seconds);
    options->progress = Progress::ForStderr();
    HandleStopSignals(SA_RESETHAND);  // The second time the process ends at once.
    options->should_stop = [] { return StopRequests() > 0; };
  }
};

constexpr char kRunHelp[] = "Folder of a run that goes on, for its servers";

void AddExport(CLI::App* admin, Verb* verb) {
  struct Flags {
    ServerFlags servers;
    ExportOptions options;
    std::string dtype = "stored";
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* app = admin->add_subcommand("export", "Writes the rows of a head as safetensors files");
  flags->servers.Add(app, "Run folder: its servers while the run goes on, else the rows that it left; then no server is needed");
  app->add_option("--head", flags->options.head, kHeadHelp);
  app->add_option("--out", flags->options.out_dir, "Folder for the files; must be empty or missing")->required();
  app->add_option("--dtype", flags->dtype, "How weights are written; narrower than they are stored, they are rounded to nearest")
      ->check(CLI::IsMember({"stored", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  app->add_flag("--slots", flags->options.slots, "Optimizer slots too, as float32");
  app->footer(
      "Only rows that exist are written; the others follow from the head's seed. Files stream, whatever their size, are read back from "
      "the\n"
      "disk and compared, and the folder appears when all are right.\n"
      "Examples:\n"
      "  myriad admin export --shards 10.0.0.1:7711,10.0.0.2:7711 --head faces --out faces-rows\n"
      "  myriad admin export --run runs/first --out faces-rows --dtype bfloat16");
  app->callback([flags, verb] {
    verb->run = [flags] {
      if (flags->dtype == "float32") flags->options.dtype = DataType::kFloat32;
      if (flags->dtype == "bfloat16") flags->options.dtype = DataType::kBFloat16;
      if (flags->dtype == "float16") flags->options.dtype = DataType::kFloat16;
      if (flags->servers.run_dir.empty()) return flags->servers.Run(flags->options, ExportRows);
      const absl::StatusOr<std::vector<std::string>> live = RunShards::Find(flags->servers.run_dir);
      if (!live.ok()) return live.status();
      if (!live->empty()) return flags->servers.Run(flags->options, ExportRows);
      flags->servers.Finish(&flags->options);
      flags->options.run_dir = flags->servers.run_dir;
      return ExportRows(flags->options, std::cout);
    };
  });
}

void AddImport(CLI::App* admin, Verb* verb) {
  struct Flags {
    ServerFlags servers;
    ImportOptions options;
    std::string verify;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* app =
      admin->add_subcommand("import", "Sets rows of a head from safetensors, or from the checkpoints of a Partial FC run's ranks");
  flags->servers.Add(app, kRunHelp);
  app->add_option("--head", flags->options.head, kHeadHelp);
  app->add_option("--head-spec", flags->options.spec_path, "myriad.v1.HeadSpec in text format: makes the head where it is not there yet");
  app->add_option("--from", flags->options.from, "Files, or folders: of an export, or of a Partial FC run with the *.pt of all ranks")
      ->required();
  app->add_flag("--slots", flags->options.slots, "Optimizer slots (momentum) too; else they start from zero");
  app->add_option("--verify", flags->verify,
                  "What is read back and compared bit by bit: all rows (default), some 10,000 of them, or none (default --while-training)")
      ->check(CLI::IsMember({"all", "sample", "none"}));
  app->add_flag("--while-training", flags->options.while_training,
                "Writes rows between the steps of a run; without it a head that is trained is refused");
  app->footer(
      "Files are checked as a whole before the first row is written. Without class_ids, a row's number is its class. Checkpoints of ranks "
      "are\n"
      "told by the last number in their names. Broken off, an import may be repeated.\n"
      "Examples:\n"
      "  myriad admin import --shards 10.0.0.1:7711,10.0.0.2:7711 --head faces --from faces-rows\n"
      "  myriad admin import --shards 10.0.0.1:7711 --head-spec faces.textproto --from partial_fc_run --slots --verify sample");
  app->callback([flags, verb] {
    verb->run = [flags] {
      const std::map<std::string, ImportOptions::Verify> choices = {
          {"all", ImportOptions::Verify::kAll}, {"sample", ImportOptions::Verify::kSample}, {"none", ImportOptions::Verify::kNone}};
      if (!flags->verify.empty()) flags->options.verify = choices.at(flags->verify);
      return flags->servers.Run(flags->options, ImportRows);
    };
  });
}

void AddGrow(CLI::App* admin, Verb* verb) {
  struct Flags {
    ServerFlags servers;
    GrowOptions options;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* app = admin->add_subcommand("grow", "Gives a head more classes, on all shards at one step");
  flags->servers.Add(app, kRunHelp);
  app->add_option("--head", flags->options.head, kHeadHelp);
  auto* classes = app->add_option("--classes", flags->options.class_count, "N as it is to be")->check(CLI::PositiveNumber);
  app->add_option("--identities", flags->options.identities_path, "Names of the new classes, one a line")->excludes(classes);
  app->add_option("--catalogue", flags->options.catalogue_path, "identities.tsv of the head, to which the names are appended");
  app->add_option("--embeddings", flags->options.embeddings_path,
                  "A row for each new class, in their order (safetensors), scaled to the norm of the others; else they are virtual");
  app->footer(
      "Everything is checked before anything changes. A run that has the head open is ended; one in a step is refused. Broken off, the "
      "same\n"
      "command again completes it.\n"
      "Examples:\n"
      "  myriad admin grow --shards 10.0.0.1:7711,10.0.0.2:7711 --head faces --identities new.txt --catalogue identities.tsv\n"
      "  myriad admin grow --store runs/first/store --identities new.txt --catalogue runs/first/store/faces.identities.tsv\n"
      "  myriad admin grow --shards 10.0.0.1:7711 --head faces --classes 400000 --embeddings means.safetensors");
  app->callback([flags, verb] { verb->run = [flags] { return flags->servers.Run(flags->options, GrowHead); }; });
}

}  // namespace

void AddAdmin(CLI::App& app, Verb* verb) {
  CLI::App* admin = app.add_subcommand("admin", "Changes heads, and moves their rows to files and back");
  admin->require_subcommand(0, 1);
  AddExport(admin, verb);
  AddImport(admin, verb);
  AddGrow(admin, verb);
}

}  // namespace myriad
