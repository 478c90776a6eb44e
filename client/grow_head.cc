#include "client/grow_head.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <deque>
#include <memory>
#include <utility>

#include <ATen/Functions.h>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "client/admin_head.h"
#include "client/file_util.h"
#include "client/head_source.h"
#include "client/identity_catalogue.h"
#include "client/row_file.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr int64_t kRowsPerBatch = 1024;
// Rows that the mean norm is taken of, at most.
constexpr int64_t kNormRows = 4096;
// Below this a row has no direction, as in a step.
constexpr double kLeastNorm = 1e-12;

// What the shards say. Their numbers of classes may differ: a grow may have been broken off.
absl::StatusOr<HeadSummary> FindHead(const GrowOptions& options) {
  const absl::StatusOr<std::unique_ptr<HeadSource>> source = OpenShardSource(options.shards, options.timeout, ClassCounts::kMayDiffer);
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::vector<HeadSummary>> heads = (*source)->Heads();
  if (!heads.ok()) return heads.status();
  absl::StatusOr<HeadSummary> head = ChooseHead(*heads, options.head);
  if (!head.ok()) return head;
  if (absl::Status status = CheckAllShards(*head); !status.ok()) return status;
  const HeadSummary::Shard& first = head->shards.front();
  for (const HeadSummary::Shard& shard : head->shards) {
    if (shard.committed_steps == first.committed_steps) continue;
    return absl::FailedPreconditionError(absl::StrCat(shard.address, ": head ", head->spec.name, " is at step ", shard.committed_steps,
                                                      "; ", first.address, " has it at ", first.committed_steps));
  }
  return head;
}

// The catalogue with the new names behind the old ones.
struct Names {
  IdentityCatalogue catalogue;
  int64_t old_count = 0;
};

absl::StatusOr<absl::optional<Names>> ReadNames(const GrowOptions& options) {
  if (options.identities_path.empty() != options.catalogue_path.empty() || options.identities_path.empty() == (options.class_count == 0)) {
    return absl::InvalidArgumentError("say which classes: either --identities FILE with --catalogue FILE, or --classes N");
  }
  if (options.identities_path.empty()) return absl::optional<Names>();
  absl::StatusOr<IdentityCatalogue> catalogue = IdentityCatalogue::Load(options.catalogue_path);
  if (!catalogue.ok()) return catalogue.status();
  const absl::StatusOr<std::string> added = ReadFile(options.identities_path);
  if (!added.ok()) return added.status();
  Names names;
  names.old_count = catalogue->size();
  int64_t line = 0;
  for (absl::string_view name : absl::StrSplit(absl::StripSuffix(*added, "\n"), '\n')) {
    ++line;
    if (const absl::StatusOr<int64_t> id = catalogue->Append(name); !id.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(options.identities_path, ":", line, ": ", id.status().message()));
    }
  }
  names.catalogue = *std::move(catalogue);
  return absl::optional<Names>(std::move(names));
}

// N before the grow and after it.
struct Counts {
  int64_t before = 0;
  int64_t after = 0;
};

// Names take the ids that follow those of the catalogue, first the ones that the head has spare.
absl::StatusOr<Counts> ChooseCounts(const GrowOptions& options, const HeadSummary& head, const absl::optional<Names>& names) {
  Counts counts;
  counts.after = names.has_value() ? names->catalogue.size() : options.class_count;
  const bool all_spare = names.has_value() && std::all_of(head.shards.begin(), head.shards.end(), [&](const HeadSummary::Shard& shard) {
                           return shard.class_count == head.shards.front().class_count && shard.class_count >= counts.after;
                         });
  if (all_spare) counts.after = head.shards.front().class_count;
  counts.before = counts.after;
  for (const HeadSummary::Shard& shard : head.shards) {
    const int64_t found = shard.class_count;
    if (names.has_value() && found < names->old_count) {
      return absl::FailedPreconditionError(absl::StrCat(options.catalogue_path, ": ", names->old_count, " names; head ", head.spec.name,
                                                        " has ", found, " classes: it is another head's catalogue"));
    }
    if (found == counts.after) continue;
    if (found > counts.after || (counts.before != counts.after && counts.before != found)) {
      return absl::FailedPreconditionError(
          absl::StrCat(shard.address, ": head ", head.spec.name, " has ", found, " classes; it cannot grow ",
                       counts.before == counts.after ? "" : absl::StrCat("from ", counts.before, " "), "to ", counts.after));
    }
    counts.before = found;
  }
  return counts;
}

double NormOf(const float* row, int64_t dim) {
  double squares = 0;
  for (int64_t d = 0; d < dim; ++d) squares += double{row[d]} * row[d];
  return std::sqrt(squares);
}

// The rows of new classes, one each. Their directions count.
absl::StatusOr<absl::optional<RowMatrix>> OpenEmbeddings(const GrowOptions& options, const HeadSpec& head, int64_t new_classes) {
  if (options.embeddings_path.empty()) return absl::optional<RowMatrix>();
  const std::string& path = options.embeddings_path;
  const absl::StatusOr<RowFile> file = OpenRowFile(path, /*with_slots=*/false);
  if (!file.ok()) return file.status();
  if (file->class_ids.has_value() || file->is_rank_checkpoint) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": must be safetensors without class_ids: row i is the i-th new class"));
  }
  if (file->weights.cols() != head.embedding_dim || file->weights.rows() != new_classes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", file->weights.rows(), " rows of ", file->weights.cols(),
                                                   " numbers; there are ", new_classes, " new classes of ", head.embedding_dim));
  }
  std::vector<float> row(head.embedding_dim);
  for (int64_t i = 0; i < new_classes; ++i) {
    file->weights.Copy(i, 1, row.data());
    const double norm = NormOf(row.data(), head.embedding_dim);
    if (!(norm >= kLeastNorm) || !std::isfinite(norm)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": row ", i, ": its norm is ", norm, "; it has no direction"));
    }
  }
  return absl::optional<RowMatrix>(file->weights);
}

absl::Status CallGrow(const HeadSummary& head, const Counts& counts, bool check_only, const CallPolicy& policy) {
  HeadSpec before = head.spec;
  before.class_count = counts.before;
  std::deque<ShardClient> shards;
  std::vector<v1::GrowHeadRequest> requests(head.shards.size());
  ShardCalls<v1::GrowHeadRequest, v1::GrowHeadResponse> calls(
      [](ShardClient& shard, grpc::ClientContext* rpc, const v1::GrowHeadRequest* request, v1::GrowHeadResponse* response,
         PendingCalls::Done done) { shard.admin().async()->GrowHead(rpc, request, response, std::move(done)); },
      policy);
  for (size_t k = 0; k < requests.size(); ++k) {
    const HeadSummary::Shard& shard = head.shards[k];
    *requests[k].mutable_head() = ToProto(before);
    requests[k].set_shard_index(shard.index);
    requests[k].set_shard_count(head.shard_count);
    requests[k].set_class_count(counts.after);
    requests[k].set_committed_steps(shard.committed_steps);
    requests[k].set_check_only(check_only);
    shards.emplace_back(shard.index, shard.address);
    calls.Start(&shards.back(), &requests[k]);
  }
  return calls.Wait();
}

// The mean norm of rows that exist, of some spread evenly over the first `class_count` classes; of a fresh row where none of them does.
absl::StatusOr<double> MeanNorm(const AdminHead& head, int64_t class_count) {
  std::vector<int64_t> ids;
  const int64_t count = std::min(class_count, kNormRows);
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int64_t>(static_cast<double>(i) / count * class_count));
  std::vector<bool> exists;
  const absl::StatusOr<at::Tensor> rows = head.rows().Fetch(ids, &exists);
  if (!rows.ok()) return rows.status();
  double sum = 0;
  int64_t found = 0;
  const int64_t dim = head.spec().embedding_dim;
  for (int64_t i = 0; i < count; ++i) {
    if (!exists[i]) continue;
    sum += NormOf(rows->const_data_ptr<float>() + i * dim, dim);
    ++found;
  }
  return found > 0 ? sum / found : head.spec().initial_deviation * std::sqrt(static_cast<double>(dim));
}

// Sets the new classes that have no row yet: what a run has trained since stays. Returns how many.
absl::StatusOr<int64_t> WriteEmbeddings(const GrowOptions& options, const AdminHead& head, const RowMatrix& embeddings, int64_t first_class,
                                        double norm) {
  const int64_t dim = head.spec().embedding_dim;
  Progress progress("writing rows of new classes", embeddings.rows(), options.progress);
  int64_t written = 0;
  for (int64_t first = 0; first < embeddings.rows(); first += kRowsPerBatch) {
    const int64_t count = std::min(kRowsPerBatch, embeddings.rows() - first);
    std::vector<int64_t> ids;
    for (int64_t i = first; i < first + count; ++i) ids.push_back(first_class + i);
    std::vector<bool> exists;
    if (const auto there = head.rows().Fetch(ids, &exists); !there.ok()) return there.status();
    std::vector<int64_t> missing;
    std::vector<float> rows;
    for (int64_t i = 0; i < count; ++i) {
      if (exists[i]) continue;
      missing.push_back(ids[i]);
      rows.resize(missing.size() * dim);
      float* const row = rows.data() + (missing.size() - 1) * dim;
      embeddings.Copy(first + i, 1, row);
      const double factor = norm / NormOf(row, dim);
      for (int64_t d = 0; d < dim; ++d) row[d] = static_cast<float>(row[d] * factor);
    }
    progress.Add(count);
    if (missing.empty()) continue;
    const at::Tensor weights = at::from_blob(rows.data(), {static_cast<int64_t>(missing.size()), dim}, at::kFloat);
    if (absl::Status status = head.rows().Write(missing, weights, at::Tensor()); !status.ok()) return status;
    written += static_cast<int64_t>(missing.size());
  }
  return written;
}

}  // namespace

absl::Status GrowHead(const GrowOptions& options, std::ostream& out) {
  CallPolicy policy;
  policy.deadline = options.timeout;
  policy.lost_code = absl::StatusCode::kUnavailable;
  const absl::StatusOr<absl::optional<Names>> names = ReadNames(options);
  if (!names.ok()) return names.status();
  const absl::StatusOr<HeadSummary> found = FindHead(options);
  if (!found.ok()) return found.status();
  const absl::StatusOr<Counts> counts = ChooseCounts(options, *found, *names);
  if (!counts.ok()) return counts.status();
  const HeadSpec& spec = found->spec;
  // A repeat finds the shards grown; the names tell by how much, else the rows do.
  int64_t first_new = names->has_value() ? (*names)->old_count : counts->before;
  if (!names->has_value() && first_new == counts->after && !options.embeddings_path.empty()) {
    const absl::StatusOr<RowFile> file = OpenRowFile(options.embeddings_path, /*with_slots=*/false);
    if (!file.ok()) return file.status();
    first_new = std::max<int64_t>(0, counts->after - file->weights.rows());
  }
  const int64_t new_classes = (names->has_value() ? (*names)->catalogue.size() : counts->after) - first_new;
  const absl::StatusOr<absl::optional<RowMatrix>> embeddings = OpenEmbeddings(options, spec, new_classes);
  if (!embeddings.ok()) return embeddings.status();
  if (options.should_stop && options.should_stop()) return absl::CancelledError("stopped; nothing has changed");

  // The catalogue as it is to be lies beside it before anything changes: a disk that cannot take it is found now.
  const std::string staged = names->has_value() ? absl::StrCat(options.catalogue_path, ".grown") : "";
  const auto remove_staged = absl::MakeCleanup([&] {
    if (!staged.empty()) ::unlink(staged.c_str());
  });
  if (names->has_value()) {
    if (absl::Status status = (*names)->catalogue.Save(staged); !status.ok()) return status;
  }
  if (absl::Status status = CallGrow(*found, *counts, /*check_only=*/true, policy); !status.ok()) return status;
  if (absl::Status status = CallGrow(*found, *counts, /*check_only=*/false, policy); !status.ok()) {
    return Annotate(status, "grown on some shards only; the same command again completes it");
  }
  std::string rows = "virtual";
  if (embeddings->has_value()) {
    const absl::StatusOr<std::unique_ptr<AdminHead>> head = AdminHead::Open(options.shards, spec.name, options.timeout);
    if (!head.ok()) return head.status();
    const absl::StatusOr<double> norm = MeanNorm(**head, first_new);
    if (!norm.ok()) return norm.status();
    const absl::StatusOr<int64_t> written = WriteEmbeddings(options, **head, **embeddings, first_new, *norm);
    if (!written.ok()) return written.status();
    rows = absl::StrFormat("%d rows from %s, of norm %.6g", *written, options.embeddings_path, *norm);
    if (*written < new_classes) absl::StrAppend(&rows, " (the other ", new_classes - *written, " had one)");
  }
  if (names->has_value()) {
    if (::rename(staged.c_str(), options.catalogue_path.c_str()) != 0) return ErrnoStatus(errno, options.catalogue_path);
    if (absl::Status status = SyncFolderOf(options.catalogue_path); !status.ok()) return status;
  }
  // Who took another head's catalogue sees it here.
  const int64_t spare = names->has_value() ? std::min((*names)->catalogue.size(), counts->before) - first_new : 0;
  out << absl::StrFormat("head %s has %d classes from step %d on: %d new%s, %s%s\n", spec.name, counts->after, found->committed_steps,
                         new_classes, spare > 0 ? absl::StrCat(" (", spare, " of them it had spare)") : "", rows,
                         names->has_value() ? absl::StrCat("; their names are in ", options.catalogue_path) : "");
  return absl::OkStatus();
}

}  // namespace myriad
