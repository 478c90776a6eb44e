#ifndef MYRIAD_CLIENT_IMPORT_FILES_H_
#define MYRIAD_CLIENT_IMPORT_FILES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/row_file.h"
#include "head/head_spec.h"

namespace myriad {

// Files of rows that go into a head together, looked at through memory maps. Thread-safe (immutable).
class ImportFiles {
 public:
  // Opens files, and of folders the set rows-i-of-n.safetensors, all of it; else the checkpoints of a Partial FC run's ranks,
  // checkpoint_gpu_*.pt or rank*_softmax_weight.pt, and nothing that lies beside them; else each *.pt but *_mom.pt. Class ids come
  // * from a file's class_ids;
  // * of the one safetensors file without them: the row's number;
  // * of checkpoints of ranks 0 .. R-1 (the last number in each file's name): rank r has the N div R + (r < N mod R) classes that follow
  //   those of rank r-1, as Partial FC splits them.
  // Slots are taken `with_slots`.
  // Errors: as OpenRowFile and, of a folder, HeadRowsFiles; INVALID_ARGUMENT naming the file: another width than the head's, slots that the
  // head does not have, of another optimizer, or that the file lacks, both kinds of files at once, two files without class ids, a rank that
  // is missing or has another share than N and R give it.
  static absl::StatusOr<ImportFiles> Open(const std::vector<std::string>& paths, const HeadSpec& head, bool with_slots);

  int64_t row_count() const;
  int count() const { return static_cast<int>(files_.size()); }

  // Rows of one file, in its order.
  struct Batch {
    const std::string* path = nullptr;
    int64_t first_row = 0;  // In the file.
    std::vector<int64_t> class_ids;
    std::vector<float> weights;  // class_ids.size() x D.
    std::vector<float> slots;    // As many rows of the head's slots, or none.
  };
  // All rows, file by file, `rows_per_batch` at most at a time; the batch keeps its memory from one visit to the next. The visitor's errors
  // end it.
  absl::Status Visit(int64_t rows_per_batch, const std::function<absl::Status(const Batch& batch)>& visit) const;

  // Reads everything once. Errors: INVALID_ARGUMENT naming file, row and class: an id outside [0, N) or given twice, a row that
  // CheckGivenRow() refuses; the visitor's. `visit` gets each batch that is right.
  absl::Status Check(int64_t rows_per_batch, const std::function<absl::Status(const Batch& batch)>& visit) const;

 private:
  struct File {
    RowFile rows;
    int64_t first_class = 0;  // Where the file has no class ids.
  };
  absl::Status OrderRanks();

  HeadSpec head_;
  std::vector<File> files_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_IMPORT_FILES_H_
