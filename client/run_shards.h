#ifndef MYRIAD_CLIENT_RUN_SHARDS_H_
#define MYRIAD_CLIENT_RUN_SHARDS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace myriad {

// RUN/shards.txt: where the servers of a run listen while it lives, host:port a line, in their order. The run holds a lock on the file that
// goes with its process, so a file that a killed run left behind is told from one of a run that goes on.
class RunShards {
 public:
  // Writes the file; it is locked as long as the object lives, and goes with it. Errors: FAILED_PRECONDITION naming the path: another
  // process has it; those of the system.
  static absl::StatusOr<std::unique_ptr<RunShards>> Announce(const std::string& run_dir, absl::Span<const std::string> addresses);
  ~RunShards();

  RunShards(const RunShards&) = delete;
  RunShards& operator=(const RunShards&) = delete;

  // The servers of the run that lives in `run_dir`, or none where none does. Errors: those of the system.
  static absl::StatusOr<std::vector<std::string>> Find(const std::string& run_dir);

 private:
  RunShards(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  const int fd_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_RUN_SHARDS_H_
