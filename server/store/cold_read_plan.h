#ifndef MYRIAD_SERVER_STORE_COLD_READ_PLAN_H_
#define MYRIAD_SERVER_STORE_COLD_READ_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/store/cold_store.h"

namespace myriad {

// Most bytes of one part whose records lie together: large enough for a disk to be as fast as it gets when several are under way.
constexpr int64_t kColdRangeBytes = 256 << 10;
// Records of one part: those that lie together, as many as RocksDB reads at a time, and few enough for a partition to keep a disk busy; and
// those that lie apart.
constexpr int64_t kColdRecordsTogether = 32;
constexpr int64_t kColdRecordsApart = 8;

// Targets [begin, end) that one thread reads at a time.
struct ColdReadPart {
  int64_t begin = 0;
  int64_t end = 0;
  bool together = false;  // They lie close together; else each lies by itself.
};

// Splits a read into parts. Neighbours whose keys follow each other closely enough for what lies between to cost less than another access
// lie together, up to `most_together` of them and kColdRangeBytes; with 0, none do. Requires: keys strictly increasing.
std::vector<ColdReadPart> PlanColdRead(absl::Span<const ColdStore::Target> targets, int64_t value_bytes, int64_t most_together);

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_COLD_READ_PLAN_H_
