#ifndef MYRIAD_CLIENT_BENCH_HEAD_FIGURES_H_
#define MYRIAD_CLIENT_BENCH_HEAD_FIGURES_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "client/bench_head.h"
#include "client/gemm_reference.h"
#include "client/head_client.h"

namespace myriad {

// The bulk load of `--prefill`, all shards.
struct PrefillFigures {
  int64_t rows = 0;
  int64_t data_bytes = 0;
  int64_t written_bytes = 0;
  double seconds = 0.0;                        // Of the slowest shard.
  double direct_write_bytes_per_second = 0.0;  // Of the slowest shard's disk, in the same minute.
};

// What the tiers did in the timed steps, all shards.
struct TierFigures {
  double hit_rate = 0.0;  // Of the steps' rows, those that were in memory.
  double disk_read_bytes_per_step = 0.0;
  double write_bytes_per_step = 0.0;
  double write_amplification = 0.0;  // Bytes written over bytes of rows given to the disk.
  double rotated_rows_per_step = 0.0;
  std::vector<double> disk_wait_seconds;  // Of each step, sorted.
  int64_t dirty_bytes_at_start = 0;
  int64_t dirty_bytes_at_end = 0;
  int64_t memory_rows = 0;  // At the end.
  int64_t memory_rows_limit = 0;
  int64_t disk_bytes = 0;
};

// The figures of a run; the JSON's keys say what they are.
struct BenchHeadFigures {
  std::vector<double> step_seconds;  // Sorted.
  GemmReference::Result gemm;
  ShardSeconds shard_seconds;  // Medians.
  double wire_bytes_per_step = 0.0;
  double rows_per_step = 0.0;
  double reserve_seconds = 0.0;
  bool rows_written_before = false;
  int warmup_steps = 0;                 // That it took.
  std::vector<int64_t> peak_rss_bytes;  // Of each server.
  int64_t rows_touched = 0;
  int threads_per_server = 0;
  int threads = 0;
  std::optional<PrefillFigures> prefill;
  std::optional<TierFigures> tiers;  // With a store.
};

// The q-quantile of what is sorted, by nearest rank; the median of what is not.
double Quantile(const std::vector<double>& sorted, double q);
double Median(std::vector<double> values);

// The figures as a JSON document, and as a table.
std::string ToJson(const BenchHeadOptions& options, const BenchHeadFigures& figures);
void PrintTable(const BenchHeadOptions& options, const BenchHeadFigures& figures, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BENCH_HEAD_FIGURES_H_
