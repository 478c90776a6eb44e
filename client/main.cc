// myriad: starts training runs on one machine, reads heads, measures; hands the verbs on images to myriad-worker.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/bench_head.h"
#include "client/binaries.h"
#include "client/job_config.h"
#include "client/launcher.h"
#include "client/query.h"
#include "version.h"

namespace {

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

// Signal handlers reach nothing else.
std::atomic<int> stop_requests{0};

void CountStopRequest(int) { stop_requests.fetch_add(1); }

// Ctrl-C, a scheduler's SIGTERM and a closed terminal ask the run to stop; what is ignored (nohup) stays ignored.
// `flags` go to sigaction.
void HandleStopSignals(int flags) {
  struct sigaction action = {};
  action.sa_handler = CountStopRequest;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);  // A closed pipe must not end the run in mid-step; its log goes on.
}

int CoreCount() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

// `given` if it is not empty, else the program `name` that came with this one.
absl::StatusOr<std::string> Sibling(const std::string& given, const std::string& package, const std::string& name) {
  if (!given.empty()) return given;
  const absl::StatusOr<std::string> folder = myriad::OwnFolder();
  if (!folder.ok()) return folder.status();
  return myriad::FindBinary(*folder, package, name);
}

struct TrainFlags {
  std::string config_path;
  std::vector<std::string> assignments;
  int shards = 0;
  int workers = 0;
  std::string run_dir;
  std::string device = "auto";
  bool trace = false;
  std::string server_binary;
  std::string worker_binary;
};

absl::Status Train(const TrainFlags& flags) {
  absl::StatusOr<myriad::config::v1::JobConfig> config = myriad::LoadJobConfig(flags.config_path);
  if (!config.ok()) return config.status();
  for (const std::string& assignment : flags.assignments) {
    if (absl::Status status = myriad::SetField(assignment, &*config); !status.ok()) return status;
  }
  if (flags.shards > 0) config->mutable_local()->set_shards(flags.shards);
  if (flags.workers > 0) config->mutable_local()->set_workers(flags.workers);
  if (!flags.run_dir.empty()) config->set_run_dir(flags.run_dir);
  if (absl::Status status = myriad::FillDefaults(&*config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(flags.config_path, ": ", status.message()));
  }
  const absl::StatusOr<std::string> server = Sibling(flags.server_binary, "server", "myriad-server");
  if (!server.ok()) return server.status();
  const absl::StatusOr<std::string> worker = Sibling(flags.worker_binary, "worker", "myriad-worker");
  if (!worker.ok()) return worker.status();
  HandleStopSignals(0);
  myriad::LaunchOptions options;
  options.config = *config;
  options.server_binary = *server;
  options.worker_binary = *worker;
  options.device = flags.device;
  options.trace = flags.trace;
  options.cores = CoreCount();
  options.stop_requests = [] { return stop_requests.load(); };
  return myriad::LaunchTraining(options);
}

void AddTrain(CLI::App& app, Verb* verb) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* train = app.add_subcommand("train", "Trains on this machine: starts shards and workers, watches them, stops them");
  train->add_option("--config,-c", flags->config_path, "Job configuration: myriad.config.v1.JobConfig in text format")->required();
  train
      ->add_option("--set", flags->assignments,
                   "Changes one field: PATH=VALUE. Elements of repeated fields by number, in quotes for the shell's sake: "
                   "'heads[0].training.scale=64'; 'verifications=[]' leaves none. May be repeated")
      ->take_all()
      ->allow_extra_args(false);
  train->add_option("--shards", flags->shards, "Server processes that share the class centers (goes before local.shards)")
      ->check(CLI::Range(1, 4096));
  train->add_option("--workers", flags->workers, "Worker processes that share the batch (goes before local.workers)")
      ->check(CLI::Range(1, 65536));
  train->add_option("--run-dir", flags->run_dir, "Folder for the run's results; must be empty or missing (goes before run_dir)");
  train->add_option("--device", flags->device, "Where workers compute: auto, cpu or cuda (one worker a GPU)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  train->add_flag(
      "--trace", flags->trace,
      "Each worker writes what ran when to logs/trace-RANK.json of the run folder; open it in chrome://tracing or ui.perfetto.dev");
  train->add_option("--server-binary", flags->server_binary, kServerBinaryHelp);
  train->add_option("--worker-binary", flags->worker_binary, "Path of myriad-worker; default: the one that came with this program");
  train->footer(
      "The run folder gets config.textproto (every default filled in), metrics.jsonl, logs/, backbone.safetensors and head/NAME/.\n"
      "Ctrl-C stops the run; twice, at once. A run that ends before it reported a step leaves no folder.\n"
      "Exit code: 0 done, 1 failed, 2 wrong usage, 3 a process of the run was lost (start it again), 130 interrupted.\n"
      "Example:\n"
      "  myriad train --config job.textproto --shards 2 --workers 2 --set training.epochs=4 --run-dir runs/first");
  train->callback([flags, verb] {
    verb->run = [flags] { return Train(*flags); };
    verb->data_loss_code = kExitLost;
  });
}

// Hands all further arguments to myriad-worker, --help included, before they are parsed here. Returns only on an error.
absl::Status ExecDataVerb(int argc, char** argv) {
  const absl::StatusOr<std::string> worker = Sibling("", "worker", "myriad-worker");
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

struct QueryFlags {
  myriad::QueryOptions options;
  myriad::CenterSelection selection;
  std::string shards;
  std::string identities;
  double timeout_seconds = 5;
};

void AddQueryFlags(CLI::App* verb, QueryFlags* flags) {
  auto* run = verb->add_option("--run", flags->options.run_dir, "Run folder; no server is needed");
  verb->add_option("--shards", flags->shards, "Servers that are running: host:port,host:port")->excludes(run);
  verb->add_option("--head", flags->options.head, "Name of the head; needed for centers where there are several");
  verb->add_flag("--json", flags->options.json, "One JSON object instead of text");
  verb->add_option("--timeout", flags->timeout_seconds, "Seconds that a server may take to answer")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
}

// What CLI11 leaves as text.
void Finish(QueryFlags* flags) {
  flags->options.shards = absl::StrSplit(flags->shards, ',', absl::SkipEmpty());
  const std::vector<std::string> names = absl::StrSplit(flags->identities, ',', absl::SkipEmpty());
  flags->selection.identities.insert(flags->selection.identities.end(), names.begin(), names.end());
  flags->options.timeout = absl::Seconds(flags->timeout_seconds);
}

void AddQuery(CLI::App& app, Verb* verb) {
  CLI::App* query = app.add_subcommand("query", "Reads heads of running servers or of a run folder");
  query->require_subcommand(0, 1);

  auto head_flags = std::make_shared<QueryFlags>();
  CLI::App* head = query->add_subcommand("head", "Size, steps, rows and settings of heads");
  AddQueryFlags(head, head_flags.get());
  head->footer("Examples:\n  myriad query head --run runs/first\n  myriad query head --shards 10.0.0.1:50051,10.0.0.2:50051 --json");
  head->callback([head_flags, verb] {
    verb->run = [head_flags] {
      Finish(head_flags.get());
      return myriad::QueryHeads(head_flags->options, std::cout);
    };
  });

  auto flags = std::make_shared<QueryFlags>();
  CLI::App* centers = query->add_subcommand("centers", "Class centers by class id or identity name, and their cosines");
  AddQueryFlags(centers, flags.get());
  centers->add_option("--classes", flags->selection.classes, "Class ids: 3,7,100-109");
  centers->add_option("--identities", flags->identities, "Identity names: NAME,NAME");
  centers->add_option("--identity", flags->selection.identities, "One identity name, commas and all; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  centers->add_option("--catalogue", flags->options.catalogue_path, "identities.tsv of the head, for names with --shards");
  centers->add_option("--values", flags->selection.shown_values, "Numbers shown of each center in text; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  centers->footer(
      "A class that was never trained on is virtual: its center is the value that it would start from.\n"
      "Examples:\n"
      "  myriad query centers --run runs/first --classes 0,1,2\n"
      "  myriad query centers --shards 10.0.0.1:50051 --catalogue identities.tsv --identities alice,bob --json");
  centers->callback([flags, verb] {
    verb->run = [flags] {
      Finish(flags.get());
      return myriad::QueryCenters(flags->options, flags->selection, std::cout);
    };
  });
}

void AddBench(CLI::App& app, Verb* verb) {
  CLI::App* bench = app.add_subcommand("bench", "Measures on this machine");
  bench->require_subcommand(0, 1);
  auto options = std::make_shared<myriad::BenchHeadOptions>();
  auto placement = std::make_shared<std::string>("shard");
  CLI::App* head =
      bench->add_subcommand("head", "Time of a head's step over real servers, beside the matrix products it cannot do without");
  const auto add = [head](const char* name, auto* value, const char* help) {
    return head->add_option(name, *value, help)->capture_default_str();
  };
  add("--classes", &options->classes, "N, classes of the head")->check(CLI::PositiveNumber);
  add("--dim", &options->dim, "D, numbers of an embedding")->check(CLI::PositiveNumber);
  add("--batch", &options->batch, "B, embeddings of a step")->check(CLI::PositiveNumber);
  add("--samples", &options->samples, "S, negatives drawn for a step over all shards; positives come on top")
      ->check(CLI::NonNegativeNumber);
  add("--steps", &options->steps, "Timed steps")->check(CLI::PositiveNumber);
  add("--warmup-steps", &options->warmup_steps, "Untimed steps before them")->check(CLI::PositiveNumber);
  add("--shards", &options->shards, "K, server processes")->check(CLI::Range(1, 4096));
  add("--threads", &options->threads, "Compute threads of all servers together; 0: all cores")->check(CLI::NonNegativeNumber);
  head->add_option("--compute-at", *placement, "Where logits are computed: shard or worker")
      ->check(CLI::IsMember({"shard", "worker"}))
      ->capture_default_str();
  head->add_option("--json", options->json_path, "Writes the figures to this file too");
  head->add_option("--server-binary", options->server_binary, kServerBinaryHelp);
  head->footer("Example:\n  myriad bench head --classes 100000000 --dim 512 --batch 256 --samples 16384 --steps 20 --json out.json");
  head->callback([options, placement, verb] {
    verb->run = [options, placement]() -> absl::Status {
      options->placement = *placement == "worker" ? myriad::Placement::kWorker : myriad::Placement::kShard;
      const absl::StatusOr<std::string> server = Sibling(options->server_binary, "server", "myriad-server");
      if (!server.ok()) return server.status();
      options->server_binary = *server;
      HandleStopSignals(SA_RESETHAND);  // The second time the process ends at once, and its servers with it.
      options->should_stop = [] { return stop_requests.load() > 0; };
      return myriad::RunBenchHead(*options, std::cout);
    };
  });
}

int Report(const absl::Status& status, int data_loss_code) {
  std::cout.flush();
  if (status.ok()) {
    if (std::cout.good()) return 0;
    std::fprintf(stderr, "myriad: cannot write the output\n");
    return kExitError;
  }
  const std::string message(status.message());
  std::fprintf(stderr, "myriad: %s%s", message.c_str(), !message.empty() && message.back() == '\n' ? "" : "\n");
  if (absl::IsCancelled(status)) return kExitInterrupted;
  return absl::IsDataLoss(status) ? data_loss_code : kExitError;
}

int Run(int argc, char** argv) {
  if (IsDataVerb(argc, argv)) return Report(ExecDataVerb(argc, argv), kExitError);
  CLI::App app("Trains embedding models over huge sets of identities: class centers on servers, images at workers.", "myriad");
  app.set_version_flag("--version", absl::StrCat("myriad ", myriad::kVersion));
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) { return absl::StrCat("myriad: ", error.what(), "; see --help\n"); });
  app.footer("Each command has its own help with an example: myriad train --help");
  Verb verb;
  AddTrain(app, &verb);
  AddData(app);
  AddQuery(app, &verb);
  AddBench(app, &verb);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : kExitUsage;
  }
  if (!verb.run) {
    const std::vector<CLI::App*> named = app.get_subcommands();
    const std::string command = named.empty() ? "myriad" : absl::StrCat("myriad ", named.front()->get_name());
    std::fprintf(stderr, "myriad: say what to do; %s --help lists the commands\n", command.c_str());
    return kExitUsage;
  }
  return Report(verb.run(), verb.data_loss_code);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {  // For want of memory, mostly.
    return Report(absl::InternalError(error.what()), kExitError);
  }
}
