#include "client/export_rows.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include <google/protobuf/text_format.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "client/admin_head.h"
#include "client/file_util.h"
#include "client/folder_in_the_making.h"
#include "client/head_rows.h"
#include "client/head_source.h"
#include "client/row_file.h"
#include "client/row_file_writer.h"
#include "client/run_folder.h"
#include "proto/wire/head_codec.h"

namespace myriad {
namespace {

constexpr int64_t kBytesPerBatch = 1 << 20;
constexpr char kSpecName[] = "head-spec.textproto";
constexpr char kIdentitiesName[] = "identities.tsv";

// Some rows of a part. Borrowed for the visit.
struct Batch {
  absl::Span<const int64_t> class_ids;
  const float* weights = nullptr;
  const float* slots = nullptr;  // Where asked for.
  int64_t part_rows = 0;         // Of all batches of the part.
};
using Visitor = std::function<absl::Status(const Batch& batch)>;

// Where rows come from, part by part.
class Parts {
 public:
  virtual ~Parts() = default;
  virtual const HeadSummary& head() const = 0;
  virtual int count() const = 0;
  virtual absl::Status Read(int part, bool slots, const Visitor& visit) = 0;
  // The head's catalogue; "" if there is none here.
  virtual std::string identities_path() const { return ""; }
};

// A part is a shard.
class ShardParts : public Parts {
 public:
  explicit ShardParts(std::unique_ptr<AdminHead> head) : head_(std::move(head)) {}
  const HeadSummary& head() const override { return head_->summary(); }
  int count() const override { return static_cast<int>(head_->shards().size()); }
  absl::Status Read(int part, bool slots, const Visitor& visit) override {
    return head_->rows().ReadShard(part, slots, [&](const RowBatch& batch) -> absl::Status {
      if (batch.committed_steps != head_->summary().committed_steps) {
        return absl::FailedPreconditionError(absl::StrCat(head_->shards()[part]->Name(), ": head ", head_->spec().name, " is at step ",
                                                          batch.committed_steps, "; it was at ", head_->summary().committed_steps,
                                                          " when the export began: export when the run rests or has ended"));
      }
      return visit({batch.class_ids, batch.weights.const_data_ptr<float>(), slots ? batch.slots.const_data_ptr<float>() : nullptr,
                    batch.shard_row_count});
    });
  }

 private:
  const std::unique_ptr<AdminHead> head_;
};

// A part is a file.
class RunParts : public Parts {
 public:
  RunParts(RunFolder folder, HeadSummary head, std::vector<std::string> paths)
      : folder_(std::move(folder)), head_(std::move(head)), paths_(std::move(paths)) {}
  const HeadSummary& head() const override { return head_; }
  int count() const override { return static_cast<int>(paths_.size()); }
  absl::Status Read(int part, bool slots, const Visitor& visit) override {
    const absl::StatusOr<RowFile> file = OpenRowFile(paths_[part], slots);
    if (!file.ok()) return file.status();
    const int64_t slot_numbers = slots ? SlotNumbers(head_.spec) : 0;
    if (slots && !file->slots.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(paths_[part], ": has no slots (training.final_rows says what a run writes); its store has ", "them: --store"));
    }
    if (file->weights.cols() != head_.spec.embedding_dim || !file->class_ids.has_value() ||
        (slots && file->slots->cols() != slot_numbers)) {
      return absl::DataLossError(absl::StrCat(paths_[part], ": not the rows of head ", head_.spec.name, ", with ids, ",
                                              head_.spec.embedding_dim, " weights and ", slot_numbers, " numbers of slots each"));
    }
    const int64_t step = std::max<int64_t>(1, kBytesPerBatch / (int64_t{4} * (head_.spec.embedding_dim + slot_numbers)));
    std::vector<int64_t> ids;
    std::vector<float> weights, slot_values;
    for (int64_t first = 0; first < file->weights.rows(); first += step) {
      const int64_t rows = std::min(step, file->weights.rows() - first);
      ids.clear();
      for (int64_t row = first; row < first + rows; ++row) ids.push_back(file->ClassIdAt(row));
      weights.resize(rows * head_.spec.embedding_dim);
      file->weights.Copy(first, rows, weights.data());
      slot_values.resize(rows * slot_numbers);
      if (slots) file->slots->Copy(first, rows, slot_values.data());
      const absl::Status status = visit({ids, weights.data(), slot_values.data(), file->weights.rows()});
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  std::string identities_path() const override {
    const std::string path = folder_.identities_path(head_.spec.name);
    std::error_code error;
    return std::filesystem::exists(path, error) ? path : "";
  }

 private:
  const RunFolder folder_;
  const HeadSummary head_;
  const std::vector<std::string> paths_;
};

absl::StatusOr<std::unique_ptr<Parts>> OpenParts(const ExportOptions& options) {
  if (options.run_dir.empty() == options.shards.empty()) {
    return absl::InvalidArgumentError("say where to read: either --run DIR or --shards host:port,...");
  }
  if (options.run_dir.empty()) {
    absl::StatusOr<std::unique_ptr<AdminHead>> head = AdminHead::Open(options.shards, options.head, options.timeout);
    if (!head.ok()) return head.status();
    return std::unique_ptr<Parts>(std::make_unique<ShardParts>(*std::move(head)));
  }
  const absl::StatusOr<std::unique_ptr<HeadSource>> source = OpenRunFolderSource(options.run_dir);
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::vector<HeadSummary>> heads = (*source)->Heads();
  if (!heads.ok()) return heads.status();
  absl::StatusOr<HeadSummary> head = ChooseHead(*heads, options.head);
  if (!head.ok()) return head.status();
  absl::StatusOr<RunFolder> folder = RunFolder::Open(options.run_dir);
  if (!folder.ok()) return folder.status();
  absl::StatusOr<std::vector<std::string>> paths = HeadRowsFiles(folder->head_folder(head->spec.name));
  if (!paths.ok()) return paths.status();
  return std::unique_ptr<Parts>(std::make_unique<RunParts>(*std::move(folder), *std::move(head), *std::move(paths)));
}

absl::Status WriteSpec(const HeadSpec& spec, const std::string& path) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(ToProto(spec), &text);
  return WriteFileAtomically(path, text);
}

// "" copies nothing.
absl::Status CopyIdentities(const std::string& from, const std::string& to) {
  if (from.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> names = ReadFile(from);
  if (!names.ok()) return names.status();
  return WriteFileAtomically(to, *names);
}

absl::StatusOr<std::unique_ptr<RowFileWriter>> WritePart(const ExportOptions& options, Parts* parts, int part, DataType dtype,
                                                         const std::string& folder, Progress* progress) {
  const HeadSummary& head = parts->head();
  RowFileWriter::Options file;
  file.path = HeadRowsPath(folder, part, parts->count());
  file.head = head.spec;
  file.committed_steps = head.committed_steps;
  file.slots = options.slots;
  file.dtype = dtype;
  std::unique_ptr<RowFileWriter> writer;
  const auto begin = [&](int64_t row_count) {
    file.row_count = row_count;
    absl::StatusOr<std::unique_ptr<RowFileWriter>> made = RowFileWriter::Create(file);
    if (made.ok()) writer = *std::move(made);
    return made.status();
  };
  absl::Status status = parts->Read(part, options.slots, [&](const Batch& batch) -> absl::Status {
    if (options.should_stop && options.should_stop()) return absl::CancelledError("stopped; nothing is left of the export");
    if (writer == nullptr) {
      if (absl::Status begun = begin(batch.part_rows); !begun.ok()) return begun;
    }
    progress->Add(batch.class_ids.size());
    return writer->Append(batch.class_ids, batch.weights, batch.slots);
  });
  if (status.ok() && writer == nullptr) status = begin(0);
  if (status.ok()) status = writer->Finish();
  if (!status.ok()) return status;
  return writer;
}

}  // namespace

absl::Status ExportRows(const ExportOptions& options, std::ostream& out) {
  const absl::StatusOr<std::unique_ptr<Parts>> parts = OpenParts(options);
  if (!parts.ok()) return parts.status();
  const HeadSummary& head = (*parts)->head();
  const absl::StatusOr<std::unique_ptr<FolderInTheMaking>> folder = FolderInTheMaking::Create(options.out_dir);
  if (!folder.ok()) return folder.status();
  const DataType dtype = options.dtype.value_or(head.spec.weight_dtype);

  std::vector<std::unique_ptr<RowFileWriter>> files;
  {
    Progress progress(absl::StrCat("exporting head ", head.spec.name), head.row_count, options.progress);
    for (int part = 0; part < (*parts)->count(); ++part) {
      absl::StatusOr<std::unique_ptr<RowFileWriter>> file = WritePart(options, parts->get(), part, dtype, (*folder)->path(), &progress);
      if (!file.ok()) return file.status();
      files.push_back(*std::move(file));
    }
  }
  int64_t rows = 0;
  int64_t bytes = 0;
  for (const std::unique_ptr<RowFileWriter>& file : files) {
    rows += file->row_count();
    bytes += file->byte_count();
  }
  {
    Progress progress("reading back", rows, options.progress);
    for (const std::unique_ptr<RowFileWriter>& file : files) {
      if (absl::Status status = file->Verify(); !status.ok()) return status;
      progress.Add(file->row_count());
    }
  }
  if (absl::Status status = WriteSpec(head.spec, JoinPath((*folder)->path(), kSpecName)); !status.ok()) return status;
  if (absl::Status status = CopyIdentities((*parts)->identities_path(), JoinPath((*folder)->path(), kIdentitiesName)); !status.ok()) {
    return status;
  }
  if (absl::Status status = (*folder)->Complete(); !status.ok()) return status;
  out << absl::StrFormat(
      "exported %d rows of head %s at step %d to %s: %d files, %d bytes, weights %s%s; read back and equal, checksum %016x\n", rows,
      head.spec.name, head.committed_steps, options.out_dir, files.size(), bytes, TensorTypeName(TensorTypeOf(dtype)),
      options.slots ? " with slots" : "", CombinedChecksum(files));
  return absl::OkStatus();
}

}  // namespace myriad
