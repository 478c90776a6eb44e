#ifndef MYRIAD_CLIENT_BENCH_HEAD_RUN_H_
#define MYRIAD_CLIENT_BENCH_HEAD_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/bench_head.h"
#include "client/bench_head_figures.h"
#include "client/head_client.h"

namespace myriad {

// The head and the training of a benchmark on these shards.
HeadClient::Options BenchHeadClientOptions(const BenchHeadOptions& options, const std::vector<std::string>& addresses);

// Runs it against servers that are up. Errors: those of HeadClient; CANCELLED.
absl::Status RunBenchHeadSteps(const BenchHeadOptions& options, const std::vector<std::string>& addresses, BenchHeadFigures* figures);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_BENCH_HEAD_RUN_H_
