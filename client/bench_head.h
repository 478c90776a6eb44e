#ifndef MYRIAD_CLIENT_BENCH_HEAD_H_
#define MYRIAD_CLIENT_BENCH_HEAD_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "head/head_spec.h"

namespace myriad {

// `myriad bench head`: how long a step of a head takes, against the three matrix products that it cannot do without.
struct BenchHeadOptions {
  int64_t classes = 1000000;  // N.
  int dim = 512;              // D.
  int batch = 256;            // B, of the one rank.
  int64_t samples = 16384;    // S, draws of a step over all shards; positives come on top.
  int steps = 20;             // T timed steps.
  int warmup_steps = 3;       // Untimed ones before them.
  int shards = 1;             // K server processes; the threads are divided among them.
  int threads = 0;            // Of all servers together; all cores when 0.
  Placement placement = Placement::kShard;
  SamplerOptions::Kind sampler = SamplerOptions::Kind::kUniform;  // kUniform, kPool or kBlock.
  int64_t pool_size = 0;                                          // Of kPool; 32 S when 0, at most N.
  int64_t rotated_rows = 0;                                       // Of kPool; S/16, at least 1, when 0.
  DataType dtype = DataType::kFloat32;                            // Of weights and slots.
  OptimizerKind optimizer = OptimizerKind::kSgd;
  IdleUpdate idle_update = IdleUpdate::kSkip;  // kExact: of kSgd alone.
  std::string store;                  // An existing folder for rows beyond memory; what is made in it goes at the end. None when empty.
  int64_t memory_bytes = 0;           // For the rows of all servers together; no limit when 0.
  bool prefill = false;               // All rows are on disk before the first step. Requires `store`.
  std::string server_binary;          // Path of myriad-server.
  std::string json_path;              // No file when empty.
  std::function<bool()> should_stop;  // Asked between steps; true ends the benchmark. Never when empty.
};

// Starts the servers on loopback, checks a few small steps against plain float64 loops, reserves (or, where the run would draw every row
// anyway, writes) the rows to come, runs the steps, and prints a table to `out`. With `memory_bytes`, timing starts once memory is full.
// The servers are gone when it returns.
// Errors: INVALID_ARGUMENT (an option out of range) and those of the system for a folder of `json_path` that cannot be written to, before
// anything is started; those of LocalShards and HeadClient; INTERNAL (the check failed); CANCELLED (`should_stop`).
absl::Status RunBenchHead(const BenchHeadOptions& options, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BENCH_HEAD_H_
