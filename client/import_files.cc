#include "client/import_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/file_util.h"

namespace myriad {
namespace {

// The files that a path stands for.
absl::StatusOr<std::vector<std::string>> Expand(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> rows, checkpoints;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::StartsWith(name, "rows-") && absl::EndsWith(name, ".safetensors")) rows.push_back(it->path().string());
    if (absl::EndsWith(name, ".pt") && !absl::EndsWith(name, "_mom.pt")) checkpoints.push_back(it->path().string());
  }
  if (error) return ErrnoStatus(error.value(), path);
  std::vector<std::string>& found = rows.empty() ? checkpoints : rows;
  if (found.empty()) return absl::NotFoundError(absl::StrCat(path, ": neither rows-*.safetensors nor *.pt in this folder"));
  std::sort(found.begin(), found.end());
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

absl::Status CheckFinite(const ImportFiles::Batch& batch, const std::vector<float>& numbers) {
  const int64_t cols = static_cast<int64_t>(numbers.size() / batch.class_ids.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!std::isfinite(numbers[i])) {
      return absl::InvalidArgumentError(absl::StrCat(RowName(batch, i / cols), ": number ", i % cols, " is not finite"));
    }
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
    if (with_slots && !rows.slots.has_value()) return absl::InvalidArgumentError(absl::StrCat(rows.path, ": has no slots to import"));
    if (with_slots && rows.slots->cols() != SlotNumbers(head)) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows.path, ": slots of ", rows.slots->cols(), " numbers a row; head ", head.name, " keeps ", SlotNumbers(head)));
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
  return Visit(rows_per_batch, [&](const Batch& batch) -> absl::Status {
    for (size_t i = 0; i < batch.class_ids.size(); ++i) {
      const int64_t id = batch.class_ids[i];
      if (id < 0 || id >= head_.class_count) {
        return absl::InvalidArgumentError(absl::StrCat(RowName(batch, i), ": outside [0, ", head_.class_count, ") of head ", head_.name));
      }
      if (given[id]) return absl::InvalidArgumentError(absl::StrCat(RowName(batch, i), ": another row before it has the same class"));
      given[id] = true;
    }
    if (absl::Status status = CheckFinite(batch, batch.weights); !status.ok()) return status;
    if (absl::Status status = CheckFinite(batch, batch.slots); !status.ok()) return status;
    return visit(batch);
  });
}

}  // namespace myriad
