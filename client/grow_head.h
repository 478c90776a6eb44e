#ifndef MYRIAD_CLIENT_GROW_HEAD_H_
#define MYRIAD_CLIENT_GROW_HEAD_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/progress.h"

namespace myriad {

// `myriad admin grow`: more classes for a head.
struct GrowOptions {
  std::vector<std::string> shards;  // host:port of all shards of the head.
  std::string head;                 // May be empty where there is only one.
  // Either both: the names of the new classes, one a line, are appended to the catalogue and take the ids behind its last, spare ones of
  // the head first,
  std::string identities_path;
  std::string catalogue_path;  // identities.tsv of the head.
  // or N as it is to be.
  int64_t class_count = 0;
  // Rows for the new classes, in their order (safetensors, without class_ids): each is scaled to the mean norm of rows that exist, or of a
  // fresh row where none does. Empty: they are virtual.
  std::string embeddings_path;
  absl::Duration timeout = absl::Seconds(60);
  Progress::Options progress;
  std::function<bool()> should_stop;  // True ends it with CANCELLED before anything changes. Never when empty.
};

// Files, shards and that the catalogue can be written are checked first, and nothing changes where anything is wrong. Then every shard gets
// the new number of classes, at one step of the head; a run that has it open is ended by that. Then come the rows of `embeddings_path`, for
// the classes that have none, and at last the catalogue. Broken off anywhere, the same command again completes it; until then no run can
// open the head. Errors: INVALID_ARGUMENT naming file and line (a name that is there already, or none), file and row (an embedding that has
// no direction); FAILED_PRECONDITION: a step is under way, shards stand at different steps or their numbers of classes belong to no grow of
// this size; those of AdminHead, ImportFiles and the system.
absl::Status GrowHead(const GrowOptions& options, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_GROW_HEAD_H_
