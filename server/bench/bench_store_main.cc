#include <stdio.h>

#include <iostream>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "server/bench/bench_store.h"

namespace myriad {
namespace {

ColdReadBy ReadBy(const std::string& name) {
  return name == "get" ? ColdReadBy::kGet : name == "multiget" ? ColdReadBy::kMultiGet : ColdReadBy::kIterator;
}

}  // namespace

int BenchStoreMain(const char* name, int argc, char** argv) {
  BenchStoreOptions options;
  std::string dtype = "bf16";
  bool buffered = false;
  std::string apart = "get";
  std::string together = "multiget";
  CLI::App app("The cold store beside the disk that it lies on, and rows in memory beside memcpy", name);
  app.failure_message(
      [name](const CLI::App*, const CLI::Error& error) { return absl::StrCat(name, ": ", error.what(), "; see --help\n"); });
  const auto add = [&app](const char* flag, auto* value, const char* help) {
    return app.add_option(flag, *value, help)->capture_default_str();
  };
  app.add_option("--store", options.folder, "An existing folder on the disk to measure; what is made in it goes again")->required();
  add("--rows", &options.rows, "Rows on disk");
  add("--dim", &options.dim, "D, numbers of an embedding");
  app.add_option("--dtype", dtype, "Of weights and momentum: bf16 or float32")
      ->check(CLI::IsMember({"bf16", "float32"}))
      ->capture_default_str();
  add("--fetch-rows", &options.fetch_rows, "Rows of a random fetch");
  add("--partitions", &options.partitions, "Partitions of a partition fetch, and of a write-back at least: one has 512 MiB");
  add("--rounds", &options.rounds, "Of each measurement; the store and its bound take turns");
  add("--hot-rows", &options.hot_rows, "Rows in memory for the comparison with memcpy; 0 leaves it out");
  add("--churn", &options.churn, "Also write back so many times the data, by partitions and at random, for the write amplification");
  add("--io-threads", &options.io_threads, "Reads in flight");
  add("--block-bytes", &options.tuning.block_bytes, "Blocks of table files")->check(CLI::Range(512, 1 << 20));
  app.add_flag("--buffered", buffered, "Through the system's cache instead of direct I/O");
  app.add_option("--apart", apart, "How rows that lie apart are read: get or multiget")
      ->check(CLI::IsMember({"get", "multiget"}))
      ->capture_default_str();
  app.add_option("--together", together, "How rows that lie together are read: get, multiget or iterator")
      ->check(CLI::IsMember({"get", "multiget", "iterator"}))
      ->capture_default_str();
  app.add_flag("--blob", options.tuning.blob_files, "Values in BlobDB's files");
  add("--run-bytes", &options.tuning.run_bytes, "Records in a row of as much go past the memtables")->check(CLI::NonNegativeNumber);
  app.add_option("--json", options.json_path, "Writes the figures to this file too");
  app.footer(absl::StrCat("Example:\n  ", name, " --store /data --rows 1000000 --json out.json"));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.dtype = dtype == "bf16" ? DataType::kBFloat16 : DataType::kFloat32;
  options.tuning.direct_io = !buffered;
  options.tuning.apart = ReadBy(apart);
  options.tuning.together = ReadBy(together);
  const absl::Status status = RunBenchStore(options, std::cout);
  if (status.ok()) return 0;
  fprintf(stderr, "%s: %s\n", name, std::string(status.message()).c_str());
  return 1;
}

}  // namespace myriad
