#ifndef MYRIAD_CLIENT_QUERY_H_
#define MYRIAD_CLIENT_QUERY_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace myriad {

// `myriad query`: reads heads of running servers or of a run folder; changes nothing.
struct QueryOptions {
  std::string run_dir;              // Either this: its servers while the run goes on, what it left afterwards;
  std::vector<std::string> shards;  // or host:port of shards.
  std::string head;                 // May be empty where there is only one.
  std::string catalogue_path;       // identities.tsv; a run folder brings its own.
  bool json = false;                // One JSON object instead of text.
  absl::Duration timeout = absl::Seconds(5);
};

// Prints what is known of the heads, or of `options.head` alone.
// Errors: INVALID_ARGUMENT (neither or both sources); NOT_FOUND (a head; the ones that are there are named); those of the source.
// Nothing is printed then.
absl::Status QueryHeads(const QueryOptions& options, std::ostream& out);

struct CenterSelection {
  std::string classes;                  // "3,7,100-109"
  std::vector<std::string> identities;  // Names; need a catalogue.
  int shown_values = 8;                 // Of each center, in text; all when 0. JSON has all.
};

// Prints class centers and, for 2 to 32 of them, their cosines. Errors: as QueryHeads; also INVALID_ARGUMENT for what is no class id, for
// one outside [0, N), and for more than 2^24 numbers at once; NOT_FOUND for a name that no identity has, or where there is no catalogue.
absl::Status QueryCenters(const QueryOptions& options, const CenterSelection& selection, std::ostream& out);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_QUERY_H_
