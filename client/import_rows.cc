#include "client/import_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include <ATen/Functions.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/admin_head.h"
#include "client/file_util.h"
#include "client/head_source.h"
#include "client/import_files.h"
#include "client/text_proto.h"
#include "head/stored_numbers.h"
#include "myriad/v1/head.pb.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr int64_t kBytesPerBatch = 1 << 20;
constexpr int64_t kSampledRows = 10000;

// The spec of `spec_path`, or none where no path is given.
absl::StatusOr<absl::optional<HeadSpec>> ReadSpec(const ImportOptions& options) {
  if (options.spec_path.empty()) return absl::optional<HeadSpec>();
  const absl::StatusOr<std::string> text = ReadFile(options.spec_path);
  if (!text.ok()) return text.status();
  v1::HeadSpec message;
  if (absl::Status status = ParseText(*text, options.spec_path, &message); !status.ok()) return status;
  const absl::StatusOr<HeadSpec> spec = ParseHeadSpec(message);
  if (!spec.ok()) return Annotate(spec.status(), options.spec_path);
  if (!options.head.empty() && options.head != spec->name) {
    return absl::InvalidArgumentError(absl::StrCat("--head is ", options.head, "; ", options.spec_path, " describes head ", spec->name));
  }
  return absl::optional<HeadSpec>(*spec);
}

// The head as it is before the files are looked at; nullptr where `spec` is to make it, on some shards or on all.
absl::StatusOr<std::unique_ptr<AdminHead>> FindHead(const ImportOptions& options, const absl::optional<HeadSpec>& spec) {
  if (const auto source = OpenShardSource(options.shards, options.timeout); !source.ok()) return source.status();
  absl::StatusOr<std::unique_ptr<AdminHead>> head =
      AdminHead::Open(options.shards, spec.has_value() ? spec->name : options.head, options.timeout);
  if (!spec.has_value()) return head;
  if (absl::IsNotFound(head.status()) || absl::IsInvalidArgument(head.status())) return std::unique_ptr<AdminHead>();
  if (!head.ok()) return head;
  if (absl::Status status = CheckSame(*spec, options.spec_path, (*head)->spec(), "the shards"); !status.ok()) return status;
  return head;
}

// `left`: what a stop leaves.
absl::Status CheckStop(const ImportOptions& options, absl::string_view left) {
  if (!options.should_stop || !options.should_stop()) return absl::OkStatus();
  return absl::CancelledError(absl::StrCat("stopped; ", left));
}

at::Tensor View(const std::vector<float>& numbers, int64_t rows) {
  return at::from_blob(const_cast<float*>(numbers.data()), {rows, static_cast<int64_t>(numbers.size()) / rows}, at::kFloat);
}

absl::Status WriteAllRows(const ImportOptions& options, const ImportFiles& files, int64_t rows_per_batch, const AdminHead& head) {
  Progress progress(absl::StrCat("importing into head ", head.spec().name), files.row_count(), options.progress);
  return files.Visit(rows_per_batch, [&](const ImportFiles::Batch& batch) -> absl::Status {
    if (absl::Status status = CheckStop(options, "only some rows are written: import again"); !status.ok()) return status;
    const int64_t rows = batch.class_ids.size();
    const at::Tensor slots = batch.slots.empty() ? at::Tensor() : View(batch.slots, rows);
    progress.Add(rows);
    return head.rows().Write(batch.class_ids, View(batch.weights, rows), slots);
  });
}

// Whether `found` is what the head's dtypes make of `given`: a run of numbers of each type, one after the other.
bool EqualAsStored(absl::Span<const SlotRange> types, const float* given, const float* found) {
  for (const SlotRange& range : types) {
    std::vector<std::byte> stored(range.count * BytesOf(range.type));
    StoreNearest(range.type, given, range.count, stored.data());
    std::vector<float> expected(range.count);
    Widen(range.type, stored.data(), range.count, expected.data());
    if (std::memcmp(found, expected.data(), range.count * sizeof(float)) != 0) return false;
    given += range.count;
    found += range.count;
  }
  return true;
}

// Compares every `stride`-th row, weights and, if they were imported, slots. Returns how many.
absl::StatusOr<int64_t> VerifyRows(const ImportOptions& options, const ImportFiles& files, int64_t rows_per_batch, int64_t stride,
                                   const AdminHead& head) {
  Progress progress("reading back", files.row_count(), options.progress);
  int64_t seen = 0;
  int64_t compared = 0;
  const int64_t dim = head.spec().embedding_dim;
  const int64_t slot_numbers = SlotNumbers(head.spec());
  const std::vector<SlotRange> weight_types = {{dim, head.spec().weight_dtype}};
  const std::vector<SlotRange> slot_types = SlotRanges(head.spec());
  const absl::Status status = files.Visit(rows_per_batch, [&](const ImportFiles::Batch& batch) -> absl::Status {
    if (absl::Status stop = CheckStop(options, "all rows are written, not all were read back"); !stop.ok()) return stop;
    std::vector<int64_t> ids;
    std::vector<int64_t> positions;  // In the batch.
    for (size_t i = 0; i < batch.class_ids.size(); ++i, ++seen) {
      if (seen % stride != 0) continue;
      ids.push_back(batch.class_ids[i]);
      positions.push_back(i);
    }
    progress.Add(batch.class_ids.size());
    if (ids.empty()) return absl::OkStatus();
    const absl::StatusOr<RowTransfer::Rows> found = head.rows().FetchRows(ids, options.slots);
    if (!found.ok()) return found.status();
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto equal = [&](const std::vector<SlotRange>& types, const std::vector<float>& given, const at::Tensor& stored, int64_t cols) {
        return EqualAsStored(types, given.data() + positions[i] * cols, stored.const_data_ptr<float>() + i * cols);
      };
      const bool weights_equal = found->exists[i] && equal(weight_types, batch.weights, found->weights, dim);
      if (weights_equal && (batch.slots.empty() || equal(slot_types, batch.slots, found->slots, slot_numbers))) continue;
      return absl::DataLossError(absl::StrCat(*batch.path, ": row ", batch.first_row + positions[i], ", class ", ids[i], ": ",
                                              weights_equal ? "its slots read" : "reads", " back from the shards as something else"));
    }
    compared += ids.size();
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return compared;
}

}  // namespace

absl::Status ImportRows(const ImportOptions& options, std::ostream& out) {
  const ImportOptions::Verify verify =
      options.verify.value_or(options.while_training ? ImportOptions::Verify::kNone : ImportOptions::Verify::kAll);
  if (options.while_training && verify != ImportOptions::Verify::kNone) {
    return absl::InvalidArgumentError("rows move while a run trains them: --while-training allows --verify none alone");
  }
  const absl::StatusOr<absl::optional<HeadSpec>> given = ReadSpec(options);
  if (!given.ok()) return given.status();
  absl::StatusOr<std::unique_ptr<AdminHead>> head = FindHead(options, *given);
  if (!head.ok()) return head.status();
  const HeadSpec spec = *head != nullptr ? (*head)->spec() : **given;
  const absl::StatusOr<ImportFiles> files = ImportFiles::Open(options.from, spec, options.slots);
  if (!files.ok()) return files.status();
  const int64_t row_bytes = int64_t{4} * (spec.embedding_dim + (options.slots ? SlotNumbers(spec) : 0));
  // Each shard gets its part of a batch in a request of its own.
  const int64_t rows_per_batch = std::max<int64_t>(1, kBytesPerBatch / row_bytes) * static_cast<int64_t>(options.shards.size());
  {
    Progress progress("checking", files->row_count(), options.progress);
    const absl::Status checked = files->Check(rows_per_batch, [&](const ImportFiles::Batch& batch) {
      progress.Add(batch.class_ids.size());
      return CheckStop(options, "no row was written");
    });
    if (!checked.ok()) return checked;
  }
  if (*head == nullptr) {
    head = AdminHead::Create(spec, options.shards, options.timeout);
    if (!head.ok()) return head.status();
  }
  if (!options.while_training) {
    if (absl::Status status = (*head)->CheckNoSteps(); !status.ok()) return status;
  }
  if (absl::Status status = WriteAllRows(options, *files, rows_per_batch, **head); !status.ok()) return status;
  if (absl::Status status = (*head)->rows().MakeDurable(); !status.ok()) return status;
  int64_t compared = 0;
  if (verify != ImportOptions::Verify::kNone) {
    const int64_t stride =
        verify == ImportOptions::Verify::kAll ? 1 : std::max<int64_t>(1, (files->row_count() + kSampledRows - 1) / kSampledRows);
    const absl::StatusOr<int64_t> verified = VerifyRows(options, *files, rows_per_batch, stride, **head);
    if (!verified.ok()) return verified.status();
    compared = *verified;
  }
  out << absl::StrFormat("imported %d rows%s from %d files into head %s; ", files->row_count(), options.slots ? " with slots" : "",
                         files->count(), spec.name);
  if (verify == ImportOptions::Verify::kNone) {
    out << "not read back\n";
  } else {
    out << absl::StrFormat("%d read back and equal\n", compared);
  }
  return absl::OkStatus();
}

}  // namespace myriad
