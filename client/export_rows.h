#ifndef MYRIAD_CLIENT_EXPORT_ROWS_H_
#define MYRIAD_CLIENT_EXPORT_ROWS_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "client/progress.h"
#include "head/head_spec.h"

namespace myriad {

// `myriad admin export`: the rows of a head that exist, as safetensors files that import_rows.h and other programs read.
struct ExportOptions {
  std::vector<std::string> shards;  // Either host:port of all shards of the head,
  std::string run_dir;              // or the folder of a run.
  std::string head;                 // May be empty where there is only one.
  std::string out_dir;              // Must be empty or missing.
  absl::optional<DataType> dtype;   // Of the weights in the files; the head's own when absent.
  bool slots = false;               // Optimizer slots too, as float32.
  absl::Duration timeout = absl::Seconds(60);
  Progress::Options progress;
  std::function<bool()> should_stop;  // True ends it with CANCELLED. Never when empty.
};

// Writes, for each shard of the head (each file of the run), a file as it streams, whatever its size; reads it back from the disk and
// compares checksums; only then does `out_dir` appear, in one piece, with head-spec.textproto and, from a run, identities.tsv. The last
// line tells rows, bytes and checksum. Errors: INVALID_ARGUMENT (neither or both sources); FAILED_PRECONDITION (`out_dir` has something in
// it; shards at different steps: a run goes on); DATA_LOSS (what was written is not what the disk has; a run's files are damaged); those of
// the source and of the system.
absl::Status ExportRows(const ExportOptions& options, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_EXPORT_ROWS_H_
