#ifndef MYRIAD_WORKER_DATA_IMAGE_FILE_LIST_H_
#define MYRIAD_WORKER_DATA_IMAGE_FILE_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace myriad {

// Image files and the identities they show, before any is read.
struct ImageFileList {
  std::vector<std::string> paths;
  std::vector<int64_t> labels;  // Of each path, an index into identities.
  std::vector<std::string> identities;
  std::vector<std::string>
      other_files;  // Found beside the images and left out: not named *.jpg, *.jpeg or *.png (case aside). Not for a list.
  std::vector<std::string> empty_folders;  // Folders with neither images nor folders. Not for a list.
};

// Lists a tree of image files: every folder below `dir` that has images in it is an identity, whose name is its path below `dir`.
// Identities are sorted by name, images by file name within (byte order). Names that start with a dot are left out; symbolic links are
// followed. Errors: NOT_FOUND if the folder is not there; INVALID_ARGUMENT if it has no image or an image that lies in no identity's
// folder, naming it.
absl::StatusOr<ImageFileList> ListImageFolder(const std::string& dir);

// Reads lines of path<TAB>identity name; a path that is not absolute counts from the list's folder. Identities are numbered in the order in
// which they first come. Empty lines are left out. Errors: NOT_FOUND; INVALID_ARGUMENT naming file, line and text for any other line.
absl::StatusOr<ImageFileList> ReadImageList(const std::string& file);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_IMAGE_FILE_LIST_H_
