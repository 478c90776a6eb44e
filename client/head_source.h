#ifndef MYRIAD_CLIENT_HEAD_SOURCE_H_
#define MYRIAD_CLIENT_HEAD_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "head/head_spec.h"

namespace myriad {

// What is known of a head.
struct HeadSummary {
  struct Shard {
    std::string address;
    int index = 0;
    int64_t row_count = 0;
    int64_t class_count = 0;  // spec.class_count, unless ClassCounts::kMayDiffer.
    int64_t committed_steps = 0;
  };
  HeadSpec spec;
  absl::optional<TrainingSpec> training;  // Of its last run; none if it has not been trained.
  int64_t incarnation = 0;
  int64_t committed_steps = 0;  // On all shards that were asked.
  int64_t row_count = 0;        // Rows that exist, there.
  int shard_count = 0;          // K.
  std::vector<Shard> shards;    // Those that were asked, by index; none for a run folder.
};

struct Center {
  int64_t class_id = 0;
  bool exists = false;        // False: virtual, the value that it would start from.
  std::vector<float> values;  // D, as stored (not normalized).
};

// Where heads can be read: servers, or the run folder that a training run left. Read-only. Thread-compatible.
class HeadSource {
 public:
  virtual ~HeadSource() = default;
  // By name. Errors: those of the source.
  virtual absl::StatusOr<std::vector<HeadSummary>> Heads() = 0;
  // In the order of `class_ids`, which must lie in [0, N).
  virtual absl::StatusOr<std::vector<Center>> FetchCenters(const HeadSummary& head, absl::Span<const int64_t> class_ids) = 0;
};

// The head of that name, or the only one where `name` is empty. Errors: NOT_FOUND, INVALID_ARGUMENT (several); both name those that are
// there.
absl::StatusOr<HeadSummary> ChooseHead(const std::vector<HeadSummary>& heads, const std::string& name);

// Errors: as RunFolder::Open. Reading later: NOT_FOUND, DATA_LOSS naming the file.
absl::StatusOr<std::unique_ptr<HeadSource>> OpenRunFolderSource(const std::string& run_dir);

// OK if every shard of the head was asked. Errors: INVALID_ARGUMENT.
absl::Status CheckAllShards(const HeadSummary& head);

// Whether shards may say different numbers of classes: those of a grow that was broken off do.
enum class ClassCounts { kEqual, kMayDiffer };

// `addresses` is host:port of shards in any order; nothing is sent yet. Every call gets `timeout`. Errors: INVALID_ARGUMENT naming an
// address that is none. Reading later: UNAVAILABLE naming the address that does not answer; FAILED_PRECONDITION: shards that do not belong
// together; INVALID_ARGUMENT: FetchCenters without all of a head's shards.
absl::StatusOr<std::unique_ptr<HeadSource>> OpenShardSource(const std::vector<std::string>& addresses, absl::Duration timeout,
                                                            ClassCounts class_counts = ClassCounts::kEqual);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_HEAD_SOURCE_H_
