#ifndef MYRIAD_CLIENT_FOLDER_IN_THE_MAKING_H_
#define MYRIAD_CLIENT_FOLDER_IN_THE_MAKING_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace myriad {

// A folder of results that takes its name only when it is complete; one that is not goes with the object. Thread-compatible.
class FolderInTheMaking {
 public:
  // Errors: FAILED_PRECONDITION naming the path: it is there and not an empty folder; those of the system.
  static absl::StatusOr<std::unique_ptr<FolderInTheMaking>> Create(const std::string& path);
  ~FolderInTheMaking();

  FolderInTheMaking(const FolderInTheMaking&) = delete;
  FolderInTheMaking& operator=(const FolderInTheMaking&) = delete;

  // Where it is meanwhile.
  const std::string& path() const { return path_; }

  // Gives it its name, durably. Errors: those of the system. No call may follow.
  absl::Status Complete();

 private:
  FolderInTheMaking(std::string path, std::string final_path) : path_(std::move(path)), final_path_(std::move(final_path)) {}

  const std::string path_;
  const std::string final_path_;
  bool complete_ = false;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_FOLDER_IN_THE_MAKING_H_
