#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/query.h"
#include "client/query_stats.h"
#include "client/verbs.h"

namespace myriad {
namespace {

struct QueryFlags {
  QueryOptions options;
  CenterSelection selection;
  std::string shards;
  std::string identities;
  double timeout_seconds = 5;
  CLI::Option* timeout = nullptr;
};

// A sample of rows may come from the disk.
constexpr double kCoverageTimeoutSeconds = 60;

void AddQueryFlags(CLI::App* verb, QueryFlags* flags) {
  auto* run = verb->add_option("--run", flags->options.run_dir, "Run folder: its servers while the run goes on, else what it left");
  verb->add_option("--shards", flags->shards, "Servers that are running: host:port,host:port")->excludes(run);
  verb->add_option("--head", flags->options.head, "Name of the head; needed for centers where there are several");
  verb->add_flag("--json", flags->options.json, "One JSON object instead of text");
  flags->timeout = verb->add_option("--timeout", flags->timeout_seconds, "Seconds that a server may take to answer")
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

}  // namespace

void AddQuery(CLI::App& app, Verb* verb) {
  CLI::App* query = app.add_subcommand("query", "Reads heads of running servers or of a run folder");
  query->require_subcommand(0, 1);

  auto head_flags = std::make_shared<QueryFlags>();
  CLI::App* head = query->add_subcommand("head", "Size, steps, rows and settings of heads");
  AddQueryFlags(head, head_flags.get());
  head->footer("Examples:\n  myriad query head --run runs/first\n  myriad query head --shards 10.0.0.1:7711,10.0.0.2:7711 --json");
  head->callback([head_flags, verb] {
    verb->run = [head_flags] {
      Finish(head_flags.get());
      return QueryHeads(head_flags->options, std::cout);
    };
  });

  auto stats_flags = std::make_shared<QueryFlags>();
  auto stats = std::make_shared<StatsOptions>();
  CLI::App* stats_verb = query->add_subcommand("stats", "Where rows lie on running servers, what moves them, and what training covers");
  AddQueryFlags(stats_verb, stats_flags.get());
  stats_flags->timeout->description("Seconds that a server may take to answer; 60 with --coverage unless given");
  stats_verb->add_flag("--coverage", stats->coverage, "Also from a sample of rows: steps since they moved, norms; and since positives");
  stats_verb->add_option("--sample-rows", stats->sample_rows, "Rows of each shard that --coverage looks at; 0: 65,536")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  stats_verb->footer(
      "Examples:\n"
      "  myriad query stats --run runs/first\n"
      "  myriad query stats --shards 10.0.0.1:7711,10.0.0.2:7711 --coverage");
  stats_verb->callback([stats_flags, stats, verb] {
    if (stats->coverage && stats_flags->timeout->count() == 0) stats_flags->timeout_seconds = kCoverageTimeoutSeconds;
    verb->run = [stats_flags, stats] {
      Finish(stats_flags.get());
      stats->query = stats_flags->options;
      return QueryStats(*stats, std::cout);
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
      "  myriad query centers --shards 10.0.0.1:7711 --catalogue identities.tsv --identities alice,bob --json");
  centers->callback([flags, verb] {
    verb->run = [flags] {
      Finish(flags.get());
      return QueryCenters(flags->options, flags->selection, std::cout);
    };
  });
}

}  // namespace myriad
