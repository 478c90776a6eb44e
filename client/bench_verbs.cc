#include <signal.h>

#include <iostream>
#include <memory>
#include <string>

#include "client/bench_head.h"
#include "client/stop_signals.h"
#include "client/verbs.h"
#include "head/type_names.h"

namespace myriad {

void AddBench(CLI::App& app, Verb* verb) {
  CLI::App* bench = app.add_subcommand("bench", "Measures on this machine");
  bench->require_subcommand(0, 1);
  bench->add_subcommand("store", "The cold store beside the disk that it lies on, and rows in memory beside memcpy (runs myriad-server)");
  auto options = std::make_shared<BenchHeadOptions>();
  auto placement = std::make_shared<std::string>("shard");
  auto sampler = std::make_shared<std::string>("uniform");
  auto dtype = std::make_shared<std::string>("float32");
  auto optimizer = std::make_shared<std::string>("sgd");
  auto idle_update = std::make_shared<std::string>("skip");
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
  head->add_option("--sampler", *sampler, "uniform, pool or block")
      ->check(CLI::IsMember({"uniform", "pool", "block"}))
      ->capture_default_str();
  add("--pool-size", &options->pool_size, "Classes of the pool; 0: 32 S")->check(CLI::NonNegativeNumber);
  add("--rotated-rows", &options->rotated_rows, "Classes of the pool that a step replaces; 0: S/16")->check(CLI::NonNegativeNumber);
  head->add_option("--dtype", *dtype, "Of weights and slots, such as momentum: float32 or bf16")
      ->check(CLI::IsMember({"float32", "bf16"}))
      ->capture_default_str();
  head->add_option("--optimizer", *optimizer, "sgd, adamw or adagrad")
      ->check(CLI::IsMember({"sgd", "adamw", "adagrad"}))
      ->capture_default_str();
  head->add_option("--idle-update", *idle_update, "Of rows that a step does not have: skip, or exact with sgd")
      ->check(CLI::IsMember({"skip", "exact"}))
      ->capture_default_str();
  head->add_option("--store", options->store, "An existing folder for rows beyond --memory; what is made in it goes again");
  head->add_option("--memory", options->memory_bytes, "For the rows of all servers together, such as 2GiB; 0: no limit but the machine's")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  head->add_flag("--prefill", options->prefill, "Writes all rows to --store before the first step");
  head->add_option("--json", options->json_path, "Writes the figures to this file too");
  head->add_option("--server-binary", options->server_binary, kServerBinaryHelp);
  head->footer("Example:\n  myriad bench head --classes 100000000 --dim 512 --batch 256 --samples 16384 --steps 20 --json out.json");
  head->callback([=] {
    verb->run = [=]() -> absl::Status {
      options->placement = *placement == "worker" ? Placement::kWorker : Placement::kShard;
      options->sampler = *sampler == "pool"    ? SamplerOptions::Kind::kPool
                         : *sampler == "block" ? SamplerOptions::Kind::kBlock
                                               : SamplerOptions::Kind::kUniform;
      options->dtype = *dtype == "bf16" ? DataType::kBFloat16 : DataType::kFloat32;
      options->optimizer = *OptimizerNamed(*optimizer);
      options->idle_update = *idle_update == NameOf(IdleUpdate::kExact) ? IdleUpdate::kExact : IdleUpdate::kSkip;
      const absl::StatusOr<std::string> server = Sibling(options->server_binary, "server", "myriad-server");
      if (!server.ok()) return server.status();
      options->server_binary = *server;
      HandleStopSignals(SA_RESETHAND);  // The second time the process ends at once, and its servers with it.
      options->should_stop = [] { return StopRequests() > 0; };
      return RunBenchHead(*options, std::cout);
    };
  });
}

}  // namespace myriad
