#ifndef MYRIAD_CLIENT_IMPORT_ROWS_H_
#define MYRIAD_CLIENT_IMPORT_ROWS_H_

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "client/progress.h"

namespace myriad {

// `myriad admin import`: sets rows of a head from files.
struct ImportOptions {
  enum class Verify { kAll, kSample, kNone };

  std::vector<std::string> shards;  // host:port of all shards of the head; in their order if it is made.
  std::string head;                 // May be empty where there is only one, and with `spec_path`.
  std::string spec_path;            // myriad.v1.HeadSpec in text form: the head is made where it is not there.
  std::vector<std::string> from;    // Files and folders, as ImportFiles::Open takes them.
  bool slots = false;               // Optimizer slots too; else rows start with zeros.
  absl::optional<Verify> verify;    // All of them when absent, or none with `while_training`.
  bool while_training = false;      // Writes between the steps of a run. Nothing can be verified then.
  absl::Duration timeout = absl::Seconds(60);
  Progress::Options progress;
  std::function<bool()> should_stop;  // True ends it with CANCELLED. Never when empty.
};

// Reads all files and refuses them as a whole if anything is wrong: nothing is made or written before. Then makes the head if it is to, and
// writes the rows in requests of some MiB, whatever there is of them; then reads rows back with their slots, all or some 10,000 evenly
// spread, and compares each bit with what the head's dtypes make of the number. The last line tells counts. A row that was there is
// replaced; one that is not in the files stays as it is. Broken off, it may be repeated. Errors: those of ImportFiles and AdminHead;
// INVALID_ARGUMENT (`while_training` with verification); FAILED_PRECONDITION (a run trains the head; another head than the spec's is
// there); DATA_LOSS naming file, row and class that read back as something else.
absl::Status ImportRows(const ImportOptions& options, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_IMPORT_ROWS_H_
