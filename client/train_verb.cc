#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "client/job_config.h"
#include "client/launcher.h"
#include "client/run_folder.h"
#include "client/stop_signals.h"
#include "client/verbs.h"

namespace myriad {
namespace {

int CoreCount() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

struct TrainFlags {
  std::string config_path;
  std::vector<std::string> assignments;
  int shards = 0;
  int workers = 0;
  std::string run_dir;
  std::string device = "auto";
  bool trace = false;
  bool resume = false;
  bool accept_mixed_steps = false;
  std::string server_binary;
  std::string worker_binary;
};

// What a run that goes on may have otherwise: how long and where it runs, and what it tells. All else made the state that it goes on from.
constexpr absl::string_view kChangeable[] = {"training.steps",
                                             "training.epochs",
                                             "training.save_every_steps",
                                             "training.keep_saves",
                                             "training.final_rows",
                                             "training.log_every_steps",
                                             "training.reader_threads",
                                             "verifications",
                                             "local.workers",
                                             "local.memory",
                                             "local.max_rows"};

absl::Status CheckChangeable(absl::string_view assignment) {
  for (const absl::string_view path : kChangeable) {
    if (absl::StartsWith(assignment, path) && assignment.substr(path.size()).find_first_of("=[.") == 0) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--set ", assignment, ": a run that is resumed can change ", absl::StrJoin(kChangeable, ", "), " alone"));
}

absl::Status Train(const TrainFlags& flags) {
  std::string config_path = flags.config_path;
  if (flags.resume) {
    const absl::StatusOr<RunFolder> folder = RunFolder::Open(flags.run_dir);
    if (!folder.ok()) return folder.status();
    config_path = folder->config_path();
  }
  absl::StatusOr<config::v1::JobConfig> config = LoadJobConfig(config_path);
  if (!config.ok()) return config.status();
  for (const std::string& assignment : flags.assignments) {
    absl::Status status = flags.resume ? CheckChangeable(assignment) : absl::OkStatus();
    if (status.ok()) status = SetField(assignment, &*config);
    if (!status.ok()) return status;
  }
  if (flags.shards > 0) config->mutable_local()->set_shards(flags.shards);
  if (flags.workers > 0) config->mutable_local()->set_workers(flags.workers);
  if (!flags.run_dir.empty()) config->set_run_dir(flags.run_dir);
  if (absl::Status status = FillDefaults(&*config); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(config_path, ": ", status.message()));
  }
  const absl::StatusOr<std::string> server = Sibling(flags.server_binary, "server", "myriad-server");
  if (!server.ok()) return server.status();
  const absl::StatusOr<std::string> worker = Sibling(flags.worker_binary, "worker", "myriad-worker");
  if (!worker.ok()) return worker.status();
  HandleStopSignals(0);
  LaunchOptions options;
  options.config = *config;
  options.server_binary = *server;
  options.worker_binary = *worker;
  options.device = flags.device;
  options.trace = flags.trace;
  options.resume = flags.resume;
  options.accept_mixed_steps = flags.accept_mixed_steps;
  options.cores = CoreCount();
  options.stop_requests = StopRequests;
  return LaunchTraining(options);
}

}  // namespace

void AddTrain(CLI::App& app, Verb* verb) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* train = app.add_subcommand("train", "Trains on this machine: starts shards and workers, watches them, stops them");
  CLI::Option* const config =
      train->add_option("--config,-c", flags->config_path, "Job configuration: myriad.config.v1.JobConfig in text format");
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
  CLI::Option* const run_dir =
      train->add_option("--run-dir", flags->run_dir,
                        "Folder for the run's results; must be empty or missing, unless the run is resumed (goes before run_dir)");
  train
      ->add_flag("--resume", flags->resume,
                 "Go on from the newest save of --run-dir, with the configuration that lies there; --set can change its length, saves, "
                 "lines, verifications, workers and memory")
      ->needs(run_dir)
      ->excludes(config);
  train->add_flag("--accept-mixed-steps", flags->accept_mixed_steps,
                  "Train on from a store (local.store) whose server did not stop cleanly: its rows lie between two steps");
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
      "Ctrl-C stops the run after its step and saves it; twice, it ends at once. A run that ends before it reported a step leaves no "
      "folder.\n"
      "Exit code: 0 done, 1 failed, 2 wrong usage, 3 a process of the run was lost (resume it, or start it again), 130 interrupted.\n"
      "Examples:\n"
      "  myriad train --config job.textproto --shards 2 --workers 2 --set training.epochs=4 --run-dir runs/first\n"
      "  myriad train --resume --run-dir runs/first");
  train->callback([flags, verb] {
    if (!flags->resume && flags->config_path.empty()) throw CLI::RequiredError("--config");
    verb->run = [flags] { return Train(*flags); };
    verb->data_loss_code = kExitLost;
  });
}

}  // namespace myriad
