#include "client/bench_head.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/bench_check.h"
#include "client/file_util.h"
#include "client/gemm_reference.h"
#include "client/head_client.h"
#include "client/local_shards.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "head/partitions.h"
#include "head/virtual_rows.h"
#include "version.h"

namespace myriad {
namespace {

constexpr int kGemmRuns = 8;  // Before the steps, and again after them.
constexpr int64_t kEmbeddingBatches = 8;
constexpr double kLearningRate = 0.1;

// The figures of a run; the JSON's keys say what they are.
struct Figures {
  std::vector<double> step_seconds;  // Sorted.
  GemmReference::Result gemm;
  ShardSeconds shard_seconds;  // Medians.
  double wire_bytes_per_step = 0.0;
  double rows_per_step = 0.0;
  double reserve_seconds = 0.0;
  bool rows_written_before = false;
  std::vector<int64_t> peak_rss_bytes;  // Of each server.
  int64_t rows_touched = 0;
  int threads_per_server = 0;
  int threads = 0;
};

double Quantile(const std::vector<double>& sorted, double q) {
  const auto rank = static_cast<int64_t>(std::ceil(q * sorted.size())) - 1;
  return sorted[std::clamp<int64_t>(rank, 0, sorted.size() - 1)];
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return Quantile(values, 0.5);
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

int64_t MemoryBytes() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  int64_t kib = 0;
  file >> name >> kib;
  return kib * 1024;
}

absl::Status CheckOptions(const BenchHeadOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t lowest) {
    return value >= lowest ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; at least ", lowest));
  };
  for (const absl::Status& status :
       {at_least("--batch", options.batch, 1), at_least("--steps", options.steps, 1), at_least("--warmup-steps", options.warmup_steps, 1),
        at_least("--shards", options.shards, 1), at_least("--threads", options.threads, 0)}) {
    if (!status.ok()) return status;
  }
  if (options.json_path.empty()) return absl::OkStatus();
  const std::filesystem::path folder = std::filesystem::path(options.json_path).parent_path();
  const std::string checked = folder.empty() ? "." : folder.string();
  std::error_code error;
  if (std::filesystem::is_directory(options.json_path, error)) return ErrnoStatus(EISDIR, options.json_path);
  return ::access(checked.c_str(), W_OK | X_OK) == 0 ? absl::OkStatus() : ErrnoStatus(errno, checked);
}

HeadClient::Options ClientOptions(const BenchHeadOptions& options, const std::vector<std::string>& addresses) {
  HeadClient::Options client;
  client.head.name = "bench";
  client.head.class_count = options.classes;
  client.head.embedding_dim = options.dim;
  client.training.sampler.kind = SamplerOptions::Kind::kUniform;
  client.training.sampler.sample_count = options.samples;
  client.training.placement = options.placement;
  client.shard_addresses = addresses;
  return client;
}

// A run against servers that are up.
class HeadBench {
 public:
  HeadBench(const BenchHeadOptions& options, const std::vector<std::string>& addresses)
      : options_(options), client_options_(ClientOptions(options, addresses)), random_(1) {
    for (size_t k = 0; k < addresses.size(); ++k) shards_.push_back(std::make_unique<ShardClient>(static_cast<int>(k), addresses[k]));
  }

  absl::Status Run(Figures* figures) {
    absl::StatusOr<std::unique_ptr<HeadClient>> client = HeadClient::Create(client_options_);
    if (!client.ok()) return client.status();
    client_ = *std::move(client);
    absl::StatusOr<int64_t> incarnation = client_->MintIncarnation();
    if (!incarnation.ok()) return incarnation.status();
    absl::StatusOr<int64_t> first_step = client_->Open(*incarnation);
    if (!first_step.ok()) return first_step.status();
    next_step_ = *first_step;
    for (int64_t i = 0; i < kEmbeddingBatches; ++i) embeddings_.push_back(at::randn({options_.batch, options_.dim}));

    if (absl::Status status = PrepareRows(figures); !status.ok()) return status;
    int64_t rows = 0;
    for (int i = 0; i < options_.warmup_steps; ++i) {
      absl::StatusOr<StepResult> result = Step();
      if (!result.ok()) return result.status();
      rows += result->row_count;
    }
    if (absl::Status status = WaitUntilApplied(); !status.ok()) return status;
    // The products have as many rows as the steps.
    GemmReference gemm(rows / options_.warmup_steps, options_.batch, options_.dim);
    gemm.Run(kGemmRuns);
    if (absl::Status status = TimeSteps(figures); !status.ok()) return status;
    gemm.Run(kGemmRuns);
    figures->gemm = gemm.Median();
    return ReadStatistics(figures);
  }

 private:
  // Rows that the run touches at most.
  int64_t RowsOfRun() const { return (options_.samples + options_.batch) * (int64_t{options_.warmup_steps} + options_.steps); }

  absl::Status CheckStop() const {
    return options_.should_stop && options_.should_stop() ? absl::CancelledError("interrupted") : absl::OkStatus();
  }

  // A run that would draw as many rows as there are finds all of them written; another makes new rows in every step and finds their memory
  // reserved. Either way no step pays for the first use of a page.
  absl::Status PrepareRows(Figures* figures) {
    figures->rows_written_before = options_.classes <= RowsOfRun();
    const int64_t rows = std::min(options_.classes, RowsOfRun());
    const absl::Time start = absl::Now();
    if (absl::Status status = ReserveRows(rows); !status.ok()) return status;
    figures->reserve_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return figures->rows_written_before ? WriteAllRows() : absl::OkStatus();
  }

  absl::Status ReserveRows(int64_t rows) {
    const Partitions partitions(options_.classes, client_options_.head.seed, client_options_.head.partition_count);
    const int shard_count = static_cast<int>(shards_.size());
    std::vector<v1::ReserveRowsRequest> requests(shards_.size());
    CallPolicy policy;
    policy.deadline = absl::Minutes(10);
    ShardCalls<v1::ReserveRowsRequest, v1::ReserveRowsResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::ReserveRowsRequest* request, v1::ReserveRowsResponse* response,
           PendingCalls::Done done) { shard.admin().async()->ReserveRows(rpc, request, response, std::move(done)); },
        policy);
    for (int k = 0; k < shard_count; ++k) {
      // A shard's share of the rows, with room for chance where there is any.
      const int64_t share = shard_count == 1 ? rows : rows / shard_count + rows / shard_count / 50 + 64;
      requests[k].set_head(client_options_.head.name);
      requests[k].set_row_count(std::min(partitions.ShardSize(k, shard_count), share));
      calls.Start(shards_[k].get(), &requests[k]);
    }
    return calls.Wait();
  }

  absl::Status WriteAllRows() {
    constexpr int64_t kRowsAtOnce = 16384;
    for (int64_t first = 0; first < options_.classes; first += kRowsAtOnce) {
      if (absl::Status status = CheckStop(); !status.ok()) return status;
      const int64_t count = std::min(kRowsAtOnce, options_.classes - first);
      std::vector<int64_t> class_ids(count);
      at::Tensor weights = at::empty({count, options_.dim});
      for (int64_t i = 0; i < count; ++i) {
        class_ids[i] = first + i;
        FillVirtualRow(client_options_.head, first + i, weights.data_ptr<float>() + i * options_.dim);
      }
      if (absl::Status status = client_->WriteRows(class_ids, weights, at::Tensor()); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step() {
    if (absl::Status status = CheckStop(); !status.ok()) return status;
    std::uniform_int_distribution<int64_t> any_class(0, options_.classes - 1);
    labels_.resize(options_.batch);
    for (int64_t& label : labels_) label = any_class(random_);
    StepInput input;
    input.step = next_step_++;
    input.learning_rate = kLearningRate;
    input.embeddings = embeddings_[input.step % kEmbeddingBatches];
    input.labels = labels_;
    return client_->Step(input);
  }

  // Reads of rows wait for the step before them, on every shard.
  absl::Status WaitUntilApplied() {
    const Partitions partitions(options_.classes, client_options_.head.seed, client_options_.head.partition_count);
    const int shard_count = static_cast<int>(shards_.size());
    std::vector<int64_t> class_ids;
    for (int k = 0; k < shard_count; ++k) {
      const auto [first, last] = partitions.ShardRange(k, shard_count);
      for (int32_t partition = first; partition < last; ++partition) {
        if (partitions.size(partition) == 0) continue;
        class_ids.push_back(partitions.ClassAt({partition, 0}));
        break;
      }
    }
    return client_->FetchCenters(class_ids, nullptr).status();
  }

  // A step lasts from its start to the start of the next, so that what a shard puts off to after its reply is paid for; the last one lasts
  // until that is done.
  absl::Status TimeSteps(Figures* figures) {
    std::vector<absl::Time> starts;
    std::vector<double> gather, forward, vote, apply;
    for (int i = 0; i < options_.steps; ++i) {
      starts.push_back(absl::Now());
      absl::StatusOr<StepResult> result = Step();
      if (!result.ok()) return result.status();
      figures->wire_bytes_per_step += static_cast<double>(result->wire_bytes) / options_.steps;
      figures->rows_per_step += static_cast<double>(result->row_count) / options_.steps;
      gather.push_back(result->shard_seconds.gather);
      forward.push_back(result->shard_seconds.forward);
      vote.push_back(result->shard_seconds.vote);
      apply.push_back(result->shard_seconds.previous_apply);
    }
    if (absl::Status status = WaitUntilApplied(); !status.ok()) return status;
    starts.push_back(absl::Now());
    for (int i = 0; i < options_.steps; ++i) figures->step_seconds.push_back(absl::ToDoubleSeconds(starts[i + 1] - starts[i]));
    std::sort(figures->step_seconds.begin(), figures->step_seconds.end());
    figures->shard_seconds = {Median(gather), Median(forward), Median(vote), Median(apply)};
    return absl::OkStatus();
  }

  absl::Status ReadStatistics(Figures* figures) {
    const v1::GetStatisticsRequest request;
    ShardCalls<v1::GetStatisticsRequest, v1::GetStatisticsResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::GetStatisticsRequest* request, v1::GetStatisticsResponse* response,
           PendingCalls::Done done) { shard.admin().async()->GetStatistics(rpc, request, response, std::move(done)); },
        CallPolicy());
    for (const std::unique_ptr<ShardClient>& shard : shards_) calls.Start(shard.get(), &request);
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    for (size_t k = 0; k < calls.size(); ++k) {
      figures->peak_rss_bytes.push_back(calls.response(k).peak_rss_bytes());
      for (const v1::HeadStatistics& head : calls.response(k).heads()) {
        if (head.head() == client_options_.head.name) figures->rows_touched += head.row_count();
      }
    }
    return absl::OkStatus();
  }

  const BenchHeadOptions options_;
  const HeadClient::Options client_options_;
  std::vector<std::unique_ptr<ShardClient>> shards_;  // For what a HeadClient has no method for.
  std::unique_ptr<HeadClient> client_;
  std::mt19937_64 random_;
  std::vector<at::Tensor> embeddings_;
  std::vector<int64_t> labels_;
  int64_t next_step_ = 0;
};

int64_t PeakRssOfAll(const Figures& figures) {
  int64_t sum = 0;
  for (int64_t bytes : figures.peak_rss_bytes) sum += bytes;
  return sum;
}

const char* PlacementName(Placement placement) { return placement == Placement::kShard ? "shard" : "worker"; }

nlohmann::ordered_json ToJson(const BenchHeadOptions& options, const Figures& figures) {
  nlohmann::ordered_json json;
  json["version"] = kVersion;
  json["classes"] = options.classes;
  json["dim"] = options.dim;
  json["batch"] = options.batch;
  json["samples"] = options.samples;
  json["steps"] = options.steps;
  json["warmup_steps"] = options.warmup_steps;
  json["shards"] = options.shards;
  json["compute_at"] = PlacementName(options.placement);
  json["step_seconds_median"] = Quantile(figures.step_seconds, 0.5);
  json["step_seconds_min"] = figures.step_seconds.front();
  json["step_seconds_p99"] = Quantile(figures.step_seconds, 0.99);
  json["gemm_seconds"] = figures.gemm.seconds;
  json["gemm_gflops"] = figures.gemm.gflops;
  json["gemm_layout"] = figures.gemm.layout;
  json["gemm_runs"] = 2 * figures.gemm.runs;
  json["step_per_gemm"] = Quantile(figures.step_seconds, 0.5) / figures.gemm.seconds;
  json["server_peak_rss_bytes"] = PeakRssOfAll(figures);
  json["peak_rss_bytes_of_each_server"] = figures.peak_rss_bytes;
  json["rows_touched"] = figures.rows_touched;
  json["rows_written_before"] = figures.rows_written_before;
  json["rows_per_step"] = figures.rows_per_step;
  json["wire_bytes_per_step"] = figures.wire_bytes_per_step;
  json["reserve_seconds"] = figures.reserve_seconds;
  json["shard_gather_seconds_median"] = figures.shard_seconds.gather;
  json["shard_forward_seconds_median"] = figures.shard_seconds.forward;
  json["shard_vote_seconds_median"] = figures.shard_seconds.vote;
  json["shard_apply_seconds_median"] = figures.shard_seconds.previous_apply;
  json["threads"] = figures.threads;
  json["threads_per_server"] = figures.threads_per_server;
  json["cpu_model"] = CpuModel();
  json["cpu_cores"] = std::thread::hardware_concurrency();
  json["memory_bytes"] = MemoryBytes();
  return json;
}

void PrintTable(const BenchHeadOptions& options, const Figures& figures, std::ostream& out) {
  constexpr double kMiB = 1 << 20;
  const double median = Quantile(figures.step_seconds, 0.5);
  out << absl::StrFormat("%d classes x %d, batch %d, %d draws, %d shard(s) x %d thread(s), compute at %s\n", options.classes, options.dim,
                         options.batch, options.samples, options.shards, figures.threads_per_server, PlacementName(options.placement));
  out << absl::StrFormat("machine         %s, %d cores, %.0f GiB\n", CpuModel(), std::thread::hardware_concurrency(),
                         MemoryBytes() / kMiB / 1024);
  out << absl::StrFormat("step            median %.1f ms, min %.1f, p99 %.1f (%d steps)\n", median * 1e3,
                         figures.step_seconds.front() * 1e3, Quantile(figures.step_seconds, 0.99) * 1e3, options.steps);
  out << absl::StrFormat("three products  %.1f ms, %.1f GFLOPS (%s, %d threads)\n", figures.gemm.seconds * 1e3, figures.gemm.gflops,
                         figures.gemm.layout, figures.threads);
  out << absl::StrFormat("step / products %.2f\n", median / figures.gemm.seconds);
  if (options.placement == Placement::kShard) {
    const ShardSeconds& shard = figures.shard_seconds;
    out << absl::StrFormat("on the shard    gather %.1f ms, forward %.1f, vote %.1f, apply %.1f\n", shard.gather * 1e3, shard.forward * 1e3,
                           shard.vote * 1e3, shard.previous_apply * 1e3);
  }
  out << absl::StrFormat("rows            %.0f a step, %d touched%s\n", figures.rows_per_step, figures.rows_touched,
                         figures.rows_written_before ? ", all before timing" : "");
  out << absl::StrFormat("server memory   peak %.0f MiB; %.2f s to reserve\n", PeakRssOfAll(figures) / kMiB, figures.reserve_seconds);
  out << absl::StrFormat("wire            %.0f bytes a step\n", figures.wire_bytes_per_step);
}

absl::Status Run(const BenchHeadOptions& options, std::ostream& out) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  // Wrong sizes are told before anything is started.
  if (absl::StatusOr<std::unique_ptr<HeadClient>> probe = HeadClient::Create(ClientOptions(options, {"127.0.0.1:1"})); !probe.ok()) {
    return probe.status();
  }
  Figures figures;
  figures.threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  figures.threads_per_server = std::max(1, figures.threads / options.shards);
  at::set_num_threads(figures.threads);

  LocalShards::Options servers;
  servers.server_binary = options.server_binary;
  servers.count = options.shards;
  servers.threads_per_server = figures.threads_per_server;
  servers.should_stop = options.should_stop;
  absl::StatusOr<std::unique_ptr<LocalShards>> shards = LocalShards::Start(servers);
  if (!shards.ok()) return shards.status();
  if (absl::Status status = CheckSmallSteps((*shards)->addresses(), options.placement); !status.ok()) return status;
  HeadBench bench(options, (*shards)->addresses());
  if (absl::Status status = bench.Run(&figures); !status.ok()) return status;
  PrintTable(options, figures, out);
  return options.json_path.empty() ? absl::OkStatus() : WriteFileAtomically(options.json_path, ToJson(options, figures).dump(2) + "\n");
}

}  // namespace

absl::Status RunBenchHead(const BenchHeadOptions& options, std::ostream& out) {
  try {
    return Run(options, out);
  } catch (const std::exception& error) {  // LibTorch throws, for example for want of memory.
    return absl::InternalError(absl::StrCat("the benchmark failed: ", error.what()));
  }
}

}  // namespace myriad
