#ifndef MYRIAD_CLIENT_RUN_SAVES_H_
#define MYRIAD_CLIENT_RUN_SAVES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "myriad/storage/v1/save_manifest.pb.h"

namespace myriad {

// The saves of a run folder: saves/step-0000000100/ for each, with the files of the worker and, written last, manifest.textproto. A folder
// without a manifest is a save that was cut off, or one that is being made or dropped; its unfinished.textproto says what the shards may
// hold for it. One process writes at a time. Thread-compatible.
class RunSaves {
 public:
  struct Entry {
    std::string name;    // "step-0000000100".
    bool made = false;   // Has a manifest.
    absl::Status state;  // Not OK: the manifest, or the plan of an unfinished one, cannot be read; says why.
    storage::v1::SaveManifest manifest;
  };

  // `folder` is RUN/saves; it need not exist.
  explicit RunSaves(std::string folder) : folder_(std::move(folder)) {}

  static std::string Name(int64_t step);
  std::string PathOf(const std::string& name) const;
  std::string PathOf(const std::string& name, const std::string& file) const;

  // What is there, oldest first. Errors: those of the system.
  absl::StatusOr<std::vector<Entry>> List() const;

  // The newest save whose files all have the sizes and checksums of its manifest. What newer ones lack is told in `refused`, a line each.
  // Errors: NOT_FOUND: the run has no save; DATA_LOSS: none is whole, with the reasons.
  absl::StatusOr<storage::v1::SaveManifest> Newest(std::vector<std::string>* refused) const;
  // The same of the saves after fewer than `step` steps.
  absl::StatusOr<storage::v1::SaveManifest> NewestBefore(int64_t step, std::vector<std::string>* refused) const;

  // Begins the save of `plan.step()`: a folder that has the plan (no files) as unfinished. Errors: FAILED_PRECONDITION: there is one.
  absl::Status Begin(const storage::v1::SaveManifest& plan) const;
  // Makes it real: `files` (without folder) are there, complete and durable.
  absl::Status Finish(storage::v1::SaveManifest manifest, absl::Span<const std::string> files) const;

  // From now on `name` is no save, whatever happens next.
  absl::Status Retire(const std::string& name) const;
  // Removes the folder of a retired or unfinished save.
  absl::Status Remove(const std::string& name) const;

 private:
  std::string folder_;
};

// Errors: DATA_LOSS naming file, value and what the manifest says; UNIMPLEMENTED: a version that this program does not know.
absl::Status VerifySave(const RunSaves& saves, const storage::v1::SaveManifest& manifest);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_RUN_SAVES_H_
