#include "client/import_files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/file_util.h"
#include "client/head_rows.h"
#include "head/given_row.h"
#include "head/type_names.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr char kNoMomentum[] =
    "no momentum of its weights in it: Partial FC runs leave it in weight_mom, in rank_R_softmax_weight_mom.pt or, those that keep all "
    "states (save_all_states) and train with SGD, in state_optimizer";

// The names in a folder that end so, sorted.
absl::StatusOr<std::vector<std::string>> NamesWith(const std::string& folder, absl::string_view suffix) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (absl::EndsWith(name, suffix)) names.push_back(std::move(name));
  }
  if (error) return ErrnoStatus(error.value(), folder);
  std::sort(names.begin(), names.end());
  return names;
}

// Of the checkpoints in a folder, those of ranks where there are any: the trainers write the network beside them.
std::vector<std::string> OfRanks(const std::vector<std::string>& checkpoints) {
  std::vector<std::string> newer, older, others;
  for (const std::string& name : checkpoints) {
    if (absl::StartsWith(name, "checkpoint_gpu_")) {
      newer.push_back(name);
    } else if (absl::StartsWith(name, "rank") && absl::EndsWith(name, "_softmax_weight.pt")) {
      older.push_back(name);
    } else if (!absl::EndsWith(name, "_mom.pt")) {
      others.push_back(name);
    }
  }
  return !newer.empty() ? newer : !older.empty() ? older : others;
}

// The files that a path stands for.
absl::StatusOr<std::vector<std::string>> Expand(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector<std::string>{path};
  absl::StatusOr<std::vector<std::string>> rows = HeadRowsFiles(path);
  if (!absl::IsNotFound(rows.status())) return rows;
  const absl::StatusOr<std::vector<std::string>> checkpoints = NamesWith(path, ".pt");
  if (!checkpoints.ok()) return checkpoints.status();
  std::vector<std::string> found;
  for (const std::string& name : OfRanks(*checkpoints)) found.push_back(JoinPath(path, name));
  if (found.empty()) return absl::NotFoundError(absl::StrCat(path, ": neither rows-i-of-n.safetensors nor *.pt in this folder"));
  return found;
}

// The last number in a file's name, or -1.
int64_t RankOf(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  size_t end = name.size();
  while (end > 0 && !absl::ascii_isdigit(name[end - 1])) --end;
  size_t begin = end;
  while (begin > 0 && absl::ascii_isdigit(name[begin - 1])) --begin;
  int64_t rank = -1;
  return absl::SimpleAtoi(name.substr(begin, end - begin), &rank) ? rank : -1;
}

std::string RowName(const ImportFiles::Batch& batch, int64_t i) {
  return absl::StrCat(*batch.path, ": row ", batch.first_row + i, ", class ", batch.class_ids[i]);
}

absl::Status CheckSlots(const RowFile& rows, const HeadSpec& head) {
  if (!rows.slots.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(rows.path, ": ", rows.is_rank_checkpoint ? kNoMomentum : "has no slots to import"));
  }
  if (rows.slots_of.value_or(head.slots) != head.slots) {
    return absl::InvalidArgumentError(absl::StrCat(rows.path, ": slots of ", NameOf(*rows.slots_of), "; the rows of head ", head.name,
                                                   " keep those of ", NameOf(head.slots), ". Import them without --slots"));
  }
  if (rows.slots->cols() != SlotNumbers(head)) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.path, ": slots of ", rows.slots->cols(), " numbers a row; head ", head.name, " keeps ", SlotNumbers(head)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ImportFiles> ImportFiles::Open(const std::vector<std::string>& paths, const HeadSpec& head, bool with_slots) {
  ImportFiles files;
  files.head_ = head;
  for (const std::string& path : paths) {
    const absl::StatusOr<std::vector<std::string>> expanded = Expand(path);
    if (!expanded.ok()) return expanded.status();
    for (const std::string& file : *expanded) {
      absl::StatusOr<RowFile> rows = OpenRowFile(file, with_slots);
      if (!rows.ok()) return rows.status();
      files.files_.push_back({*std::move(rows)});
    }
  }
  if (files.files_.empty()) return absl::InvalidArgumentError("no file to import is given");
  const RowFile* without_ids = nullptr;
  for (const File& file : files.files_) {
    const RowFile& rows = file.rows;
    if (rows.is_rank_checkpoint != files.files_.front().rows.is_rank_checkpoint) {
      return absl::InvalidArgumentError(absl::StrCat(rows.path, ": checkpoints of ranks and safetensors cannot be imported together (",
                                                     files.files_.front().rows.path, ")"));
    }
    if (rows.weights.cols() != head.embedding_dim) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows.path, ": rows of ", rows.weights.cols(), " numbers; head ", head.name, " has ", head.embedding_dim));
    }
    if (with_slots) {
      if (absl::Status status = CheckSlots(rows, head); !status.ok()) return status;
    }
    if (rows.class_ids.has_value() || rows.is_rank_checkpoint) continue;
    if (without_ids != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows.path, ": has no class_ids, nor has ", without_ids->path, ": only of one file are row numbers class ids"));
    }
    without_ids = &rows;
  }
  if (files.files_.front().rows.is_rank_checkpoint) {
    if (absl::Status status = files.OrderRanks(); !status.ok()) return status;
  }
  return files;
}

absl::Status ImportFiles::OrderRanks() {
  std::sort(files_.begin(), files_.end(), [](const File& a, const File& b) { return RankOf(a.rows.path) < RankOf(b.rows.path); });
  const int64_t ranks = count();
  const int64_t share = head_.class_count / ranks;
  const int64_t rest = head_.class_count % ranks;
  int64_t next = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    RowFile& rows = files_[rank].rows;
    const std::string of_ranks = absl::StrCat("the ", ranks, " files are taken as ranks 0 to ", ranks - 1);
    // One file alone may have any name.
    if (ranks > 1 && RankOf(rows.path) != rank) {
      return absl::InvalidArgumentError(absl::StrCat(rows.path, ": the last number in its name is not rank ", rank, "; ", of_ranks));
    }
    const int64_t expected = share + (rank < rest ? 1 : 0);
    if (rows.weights.rows() != expected) {
      return absl::InvalidArgumentError(absl::StrCat(rows.path, ": ", rows.weights.rows(), " rows; rank ", rank, " of ", ranks, " has ",
                                                     expected, " of the ", head_.class_count, " classes of head ", head_.name,
                                                     ". Is a rank's file missing? ", of_ranks));
    }
    files_[rank].first_class = next;
    next += expected;
  }
  return absl::OkStatus();
}

int64_t ImportFiles::row_count() const {
  int64_t rows = 0;
  for (const File& file : files_) rows += file.rows.weights.rows();
  return rows;
}

absl::Status ImportFiles::Visit(int64_t rows_per_batch, const std::function<absl::Status(const Batch& batch)>& visit) const {
  Batch batch;
  for (const File& file : files_) {
    const RowFile& rows = file.rows;
    batch.path = &rows.path;
    for (int64_t first = 0; first < rows.weights.rows(); first += rows_per_batch) {
      const int64_t count = std::min(rows_per_batch, rows.weights.rows() - first);
      batch.first_row = first;
      batch.class_ids.clear();
      for (int64_t row = first; row < first + count; ++row) {
        batch.class_ids.push_back(rows.class_ids.has_value() ? rows.ClassIdAt(row) : file.first_class + row);
      }
      batch.weights.resize(count * rows.weights.cols());
      rows.weights.Copy(first, count, batch.weights.data());
      if (rows.slots.has_value()) {
        batch.slots.resize(count * rows.slots->cols());
        rows.slots->Copy(first, count, batch.slots.data());
      }
      if (absl::Status status = visit(batch); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status ImportFiles::Check(int64_t rows_per_batch, const std::function<absl::Status(const Batch& batch)>& visit) const {
  std::vector<bool> given(head_.class_count);
  const int64_t slot_numbers = SlotNumbers(head_);
  return Visit(rows_per_batch, [&](const Batch& batch) -> absl::Status {
    for (size_t i = 0; i < batch.class_ids.size(); ++i) {
      const int64_t id = batch.class_ids[i];
      if (id < 0 || id >= head_.class_count) {
        return absl::InvalidArgumentError(absl::StrCat(RowName(batch, i), ": outside [0, ", head_.class_count, ") of head ", head_.name));
      }
      if (given[id]) return absl::InvalidArgumentError(absl::StrCat(RowName(batch, i), ": another row before it has the same class"));
      given[id] = true;
      const float* const slots = batch.slots.empty() ? nullptr : batch.slots.data() + i * slot_numbers;
      if (absl::Status status = CheckGivenRow(head_, batch.weights.data() + i * head_.embedding_dim, slots); !status.ok()) {
        return Annotate(status, RowName(batch, i));
      }
    }
    return visit(batch);
  });
}

}  // namespace myriad
