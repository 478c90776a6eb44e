#ifndef MYRIAD_SERVER_COVERAGE_SAMPLING_H_
#define MYRIAD_SERVER_COVERAGE_SAMPLING_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "server/coverage.h"
#include "server/head_shard.h"

namespace myriad {

// How training covers the classes of a head on this shard: reads about `sample_rows` of the rows that exist, in stretches that lie evenly
// over partitions and over the classes of a partition, a part at a time between the tasks of steps. `done` is called once, on any thread.
// Requires: sample_rows >= 1. Errors: those of HeadShard::ScanKeys() and ReadKeys().
void SampleCoverage(std::shared_ptr<HeadShard> head, int64_t sample_rows, std::function<void(absl::StatusOr<Coverage>)> done);

}  // namespace myriad

#endif  // MYRIAD_SERVER_COVERAGE_SAMPLING_H_
