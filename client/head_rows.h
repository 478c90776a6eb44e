#ifndef MYRIAD_CLIENT_HEAD_ROWS_H_
#define MYRIAD_CLIENT_HEAD_ROWS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/safetensors.h"
#include "head/head_spec.h"

namespace myriad {

// The rows of a head in a folder, as files rows-00000-of-00001.safetensors: tensors `class_ids` I64 [n] (ascending), `weights` F32 [n, D],
// `slots` F32 [n, S] with S = SlotNumbers() of the head; __metadata__ as RowFileMetadata() says. Only rows that exist are there; the others
// are virtual.

// `head` (its name), `committed_steps` and, for a file with slots, what they are: `optimizer`, `slot_dtype` in the words of type_names.h.
std::map<std::string, std::string> RowFileMetadata(const HeadSpec& head, int64_t committed_steps, bool slots);

// "FOLDER/rows-00002-of-00007.safetensors".
std::string HeadRowsPath(const std::string& folder, int index, int count);

// The files of the set in a folder, in order. Errors: NOT_FOUND: no rows file; DATA_LOSS: files of two sets, or one is missing.
absl::StatusOr<std::vector<std::string>> HeadRowsFiles(const std::string& folder);

// Writes rows that come in chunks of any order and unknown number (shards stream them by partition), in bounded memory: chunks are sorted
// in a buffer and spilled to a file without a name, which a merge reads. Not thread-safe.
class HeadRowsWriter {
 public:
  struct Options {
    std::string folder;  // Must exist; also holds the spilled rows meanwhile, as much again as the rows.
    HeadSpec head;
    int64_t buffer_bytes = int64_t{256} << 20;  // Held in memory before it is spilled.
  };

  // Errors: INVALID_ARGUMENT (a size); those of the system.
  static absl::StatusOr<std::unique_ptr<HeadRowsWriter>> Create(const Options& options);
  ~HeadRowsWriter();

  // `weights` is class_ids.size() x D and `slots` class_ids.size() x S, row-major; ids in any order.
  // Errors: INVALID_ARGUMENT (the sizes do not fit); RESOURCE_EXHAUSTED (disk full) and others of the system.
  absl::Status Append(absl::Span<const int64_t> class_ids, absl::Span<const float> weights, absl::Span<const float> slots);

  // Merges everything into rows-00000-of-00001.safetensors. Errors: INVALID_ARGUMENT naming a class that came twice; those of the system.
  // No call may follow.
  absl::Status Finish(int64_t committed_steps);

 private:
  struct State;
  explicit HeadRowsWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Reads rows by class id through memory maps. Thread-safe.
class HeadRowsReader {
 public:
  // A row: a copy.
  struct Row {
    std::vector<float> weights;  // D.
    std::vector<float> slots;    // S.
  };

  // Opens all files of the folder. Errors: NOT_FOUND (no rows file); DATA_LOSS naming the file: one of the set is missing, damaged, or its
  // ids do not ascend; INVALID_ARGUMENT: another format, or D or S out of range.
  static absl::StatusOr<std::unique_ptr<HeadRowsReader>> Open(const std::string& folder);

  const std::string& head() const { return head_; }
  int64_t committed_steps() const { return committed_steps_; }
  int64_t row_count() const { return row_count_; }
  int embedding_dim() const { return embedding_dim_; }
  int slot_numbers() const { return slot_numbers_; }

  // O(log n). nullopt: the class has no row; it is virtual.
  absl::optional<Row> Find(int64_t class_id) const;

 private:
  struct File {
    std::unique_ptr<SafetensorsReader> reader;
    int64_t row_count = 0;
    const char* class_ids = nullptr;
    const char* weights = nullptr;
    const char* slots = nullptr;
    int64_t IdAt(int64_t row) const;
  };
  HeadRowsReader() = default;
  absl::Status AddFile(const std::string& path);

  std::vector<File> files_;
  std::string head_;
  int64_t committed_steps_ = 0;
  int64_t row_count_ = 0;
  int embedding_dim_ = 0;
  int slot_numbers_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_HEAD_ROWS_H_
