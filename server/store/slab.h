#ifndef MYRIAD_SERVER_STORE_SLAB_H_
#define MYRIAD_SERVER_STORE_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/store/huge_pages.h"

namespace myriad {

// Records of a fixed number of floats in large anonymous mappings (huge pages where the system gives them), each with the number of the
// step that last changed it. Records are zero when new, never move, and are numbered from 0. Thread-compatible; records themselves may be
// written by several threads.
class Slab {
 public:
  static constexpr int64_t kMaxRecords = 0xffffffff;

  // Requires: floats_per_record in [1, 2^20].
  explicit Slab(int64_t floats_per_record);
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // Makes sure that the next `count` Take() calls succeed. Address space only: whoever writes the records takes the memory, and asks first
  // whether it is there. Errors: RESOURCE_EXHAUSTED (address space, or more than kMaxRecords).
  absl::Status Ensure(int64_t count);
  // Touches the pages of the next `count` records. Requires: Ensure(count).
  void Prefault(int64_t count);
  // Requires: Ensure() promised it.
  uint32_t Take();
  // Gives a record back. The caller leaves its content as a new record's where that matters.
  void Return(uint32_t record) { free_.push_back(record); }

  // Gives the memory of records from `count` on back to the system. Requires: none of them is taken.
  void Trim(int64_t count);

  float* At(uint32_t record) const {
    return chunks_[record / records_per_chunk_].pages.data() + (record % records_per_chunk_) * floats_per_record_;
  }
  int64_t& LastStep(uint32_t record) { return chunks_[record / records_per_chunk_].last_step[record % records_per_chunk_]; }
  int64_t LastStep(uint32_t record) const { return chunks_[record / records_per_chunk_].last_step[record % records_per_chunk_]; }

  // Records that are taken or promised by the last Prefault() or Take().
  int64_t touched_count() const { return touched_; }

 private:
  struct Chunk {
    HugePages pages;
    std::unique_ptr<int64_t[]> last_step;
  };
  absl::Status AddChunk();

  const int64_t floats_per_record_;
  const int64_t records_per_chunk_;
  std::vector<Chunk> chunks_;
  std::vector<uint32_t> free_;
  int64_t next_ = 0;     // Records from here on were never taken.
  int64_t touched_ = 0;  // Records before this have their pages.
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STORE_SLAB_H_
