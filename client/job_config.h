#ifndef MYRIAD_CLIENT_JOB_CONFIG_H_
#define MYRIAD_CLIENT_JOB_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "myriad/config/v1/job.pb.h"

namespace myriad {

// From a job configuration file to what a run does. The contract of each field is its comment in proto/myriad/config/v1/job.proto.
//   LoadJobConfig -> SetField for each --set -> FillDefaults -> (the data is opened) -> ResolveWithData

// Parses text format. `source` is for messages. Errors: INVALID_ARGUMENT "SOURCE:LINE:COLUMN: ...": bad syntax, an unknown field, a value
// of another type, a 0 written where 0 is out of range.
absl::StatusOr<config::v1::JobConfig> ParseJobConfig(absl::string_view text, const std::string& source);

// The same from a file. Also: NOT_FOUND and others of the system.
absl::StatusOr<config::v1::JobConfig> LoadJobConfig(const std::string& path);

// Applies one `--set PATH=VALUE`: field names with dots, elements of repeated fields as heads[0] or heads.0 (one past the last adds one),
// values as in text format; strings need no quotes, enum values no prefix, messages are written {field: value ...}. Messages on the path
// are made where missing; a oneof takes the member that is named. Errors: INVALID_ARGUMENT naming the assignment and what is wrong;
// `config` is then unchanged.
absl::Status SetField(absl::string_view assignment, config::v1::JobConfig* config);

// Fills in every default that needs no data, then checks each field: nothing but class counts, image size, channels and the default
// sampler may be open. Idempotent. Errors: INVALID_ARGUMENT naming field, value and range.
absl::Status FillDefaults(config::v1::JobConfig* config);

// What the data tells.
struct DataFacts {
  std::map<std::string, int64_t> class_counts;  // Of each head: identities in its data sets, by head name.
  int image_size = 0;                           // Of the first data set, pixels.
  int channels = 0;
};

// Fills in the rest and checks everything again. Requires: FillDefaults. Errors: INVALID_ARGUMENT; also a class_count below the identities
// of the data (both named).
absl::Status ResolveWithData(const DataFacts& facts, config::v1::JobConfig* config);

// Text format, the same for equal configurations; ParseJobConfig reads it back.
std::string PrintJobConfig(const config::v1::JobConfig& config);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_JOB_CONFIG_H_
