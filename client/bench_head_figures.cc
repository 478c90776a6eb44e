#include "client/bench_head_figures.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "head/type_names.h"
#include "version.h"

namespace myriad {
namespace {

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

const char* SamplerName(SamplerOptions::Kind kind) {
  return kind == SamplerOptions::Kind::kPool ? "pool" : kind == SamplerOptions::Kind::kBlock ? "block" : "uniform";
}

int64_t PeakRssOfAll(const BenchHeadFigures& figures) {
  int64_t sum = 0;
  for (int64_t bytes : figures.peak_rss_bytes) sum += bytes;
  return sum;
}

const char* PlacementName(Placement placement) { return placement == Placement::kShard ? "shard" : "worker"; }

}  // namespace

double Quantile(const std::vector<double>& sorted, double q) {
  const auto rank = static_cast<int64_t>(std::ceil(q * sorted.size())) - 1;
  return sorted[std::clamp<int64_t>(rank, 0, sorted.size() - 1)];
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return Quantile(values, 0.5);
}

std::string ToJson(const BenchHeadOptions& options, const BenchHeadFigures& figures) {
  nlohmann::ordered_json json;
  json["version"] = kVersion;
  json["classes"] = options.classes;
  json["dim"] = options.dim;
  json["batch"] = options.batch;
  json["samples"] = options.samples;
  json["steps"] = options.steps;
  json["warmup_steps"] = figures.warmup_steps;
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
  json["sampler"] = SamplerName(options.sampler);
  json["dtype"] = options.dtype == DataType::kFloat32 ? "float32" : "bf16";
  json["optimizer"] = std::string(NameOf(options.optimizer));
  json["idle_update"] = std::string(NameOf(options.idle_update));
  json["memory_limit_bytes"] = options.memory_bytes;
  if (figures.prefill) {
    const PrefillFigures& prefill = *figures.prefill;
    json["prefill_rows"] = prefill.rows;
    json["prefill_seconds"] = prefill.seconds;
    json["prefill_bytes_per_second"] = prefill.data_bytes / prefill.seconds;
    json["prefill_direct_write_bytes_per_second"] = prefill.direct_write_bytes_per_second;
    json["prefill_written_per_data_byte"] = static_cast<double>(prefill.written_bytes) / prefill.data_bytes;
  }
  if (figures.tiers) {
    const TierFigures& tiers = *figures.tiers;
    json["hit_rate"] = tiers.hit_rate;
    json["disk_read_bytes_per_step"] = tiers.disk_read_bytes_per_step;
    json["write_bytes_per_step"] = tiers.write_bytes_per_step;
    json["write_amplification"] = tiers.write_amplification;
    json["rotated_rows_per_step"] = tiers.rotated_rows_per_step;
    json["disk_wait_seconds_median"] = Quantile(tiers.disk_wait_seconds, 0.5);
    json["disk_wait_seconds_p99"] = Quantile(tiers.disk_wait_seconds, 0.99);
    json["dirty_bytes_at_start"] = tiers.dirty_bytes_at_start;
    json["dirty_bytes_at_end"] = tiers.dirty_bytes_at_end;
    json["memory_rows"] = tiers.memory_rows;
    json["memory_rows_limit"] = tiers.memory_rows_limit;
    json["disk_bytes"] = tiers.disk_bytes;
  }
  return json.dump(2) + "\n";
}

void PrintTable(const BenchHeadOptions& options, const BenchHeadFigures& figures, std::ostream& out) {
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
  if (figures.prefill) {
    const PrefillFigures& prefill = *figures.prefill;
    const double rate = prefill.data_bytes / prefill.seconds;
    out << absl::StrFormat("prefill         %d rows in %.1f s: %.0f MB/s, %.2f of a direct write; %.3f bytes written a byte\n",
                           prefill.rows, prefill.seconds, rate / 1e6, rate / prefill.direct_write_bytes_per_second,
                           static_cast<double>(prefill.written_bytes) / prefill.data_bytes);
  }
  if (figures.tiers) {
    const TierFigures& tiers = *figures.tiers;
    out << absl::StrFormat("in memory       %d of %d rows; %.4f of a step's rows found there; dirty %.0f MB before, %.0f MB after\n",
                           tiers.memory_rows, tiers.memory_rows_limit, tiers.hit_rate, tiers.dirty_bytes_at_start / 1e6,
                           tiers.dirty_bytes_at_end / 1e6);
    out << absl::StrFormat(
        "disk            reads %.2f MB a step, writes %.2f (%.2f bytes a byte of rows), rotated %.0f rows, waited %.2f ms\n",
        tiers.disk_read_bytes_per_step / 1e6, tiers.write_bytes_per_step / 1e6, tiers.write_amplification, tiers.rotated_rows_per_step,
        Quantile(tiers.disk_wait_seconds, 0.5) * 1e3);
  }
}

}  // namespace myriad
