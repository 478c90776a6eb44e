#ifndef MYRIAD_CLIENT_HEAD_ROWS_H_
#define MYRIAD_CLIENT_HEAD_ROWS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "head/head_spec.h"

namespace myriad {

// The rows of a head in a folder, as files rows-00000-of-00002.safetensors, one for each shard: tensors `class_ids` I64 [n], in the order
// in which the shard keeps its rows, `weights` [n, D] of any dtype of a head and, in a file with slots, `slots` F32 [n, S] with S =
// SlotNumbers() of the head; __metadata__ as RowFileMetadata() says. Each class is in one file. Only rows that exist are there; the
// others are virtual. RowFileWriter writes them, OpenRowFile reads one.

// `head` (its name), `committed_steps` and, for a file with slots, what they are: `optimizer`, `slot_dtype` in the words of type_names.h.
std::map<std::string, std::string> RowFileMetadata(const HeadSpec& head, int64_t committed_steps, bool slots);

// "FOLDER/rows-00002-of-00007.safetensors".
std::string HeadRowsPath(const std::string& folder, int index, int count);

// The files of the set in a folder, in order. Errors: NOT_FOUND: no rows file; DATA_LOSS: files of two sets, or one is missing.
absl::StatusOr<std::vector<std::string>> HeadRowsFiles(const std::string& folder);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_HEAD_ROWS_H_
