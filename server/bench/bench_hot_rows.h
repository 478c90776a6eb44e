#ifndef MYRIAD_SERVER_BENCH_BENCH_HOT_ROWS_H_
#define MYRIAD_SERVER_BENCH_BENCH_HOT_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "head/head_spec.h"
#include "server/bench/measured.h"

namespace myriad {

// Reading and updating rows that are in memory, `step_rows` of `rows` in random order, beside a memcpy of the same rows in the same order,
// both on one thread. An update pins the rows of a step, adds to every number of their weights and slots, and commits.
// Errors: those of RowStore; INTERNAL (a row is not what it should be).
absl::StatusOr<std::vector<Measured>> BenchHotRows(const HeadSpec& head, int64_t rows, int64_t step_rows, int rounds);

}  // namespace myriad

#endif  // MYRIAD_SERVER_BENCH_BENCH_HOT_ROWS_H_
