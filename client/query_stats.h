#ifndef MYRIAD_CLIENT_QUERY_STATS_H_
#define MYRIAD_CLIENT_QUERY_STATS_H_

#include <ostream>

#include "absl/status/status.h"
#include "client/query.h"

namespace myriad {

// `myriad query stats`: where the rows of heads lie on each shard and what moves them; with `coverage` also how training covers the
// classes. Only of running servers: those named, or of a run that goes on.
struct StatsOptions {
  QueryOptions query;
  bool coverage = false;
  int64_t sample_rows = 0;  // Of each shard, for the coverage; 0: the server's default.
};

// Prints the figures of all heads, or of `query.head`. Errors: as QueryHeads; FAILED_PRECONDITION for the folder of a
// run that has ended. Nothing is printed then.
absl::Status QueryStats(const StatsOptions& options, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_QUERY_STATS_H_
