#include <string>
#include <utility>

#include <ATen/Functions.h>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "client/step_placement.h"
#include "head/float_row_view.h"
#include "head/softmax_share.h"
#include "proto/wire/coming_labels.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

using FetchCalls = ShardCalls<v1::FetchStepRequest, v1::FetchStepResponse>;
using MergeCalls = ShardCalls<v1::MergeDenominatorsRequest, v1::MergeDenominatorsResponse>;
using ApplyCalls = ShardCalls<v1::ApplyGradientsRequest, v1::ApplyGradientsResponse>;

// This rank's rows of a step: the slices of all shards, one after the other.
struct StepSlices {
  std::vector<int64_t> class_ids;
  std::vector<at::Tensor> centers;   // One a shard; views of the responses.
  std::vector<int64_t> first_row;    // Of each shard; one more at the end.
  std::vector<int64_t> labels;       // Of all ranks, in rank order.
  std::vector<int64_t> rank_sizes;   // B_r.
  std::vector<int32_t> target_rows;  // For each label its row here, or -1.
};

absl::Status Malformed(const ShardClient& shard, const std::string& what) {
  return absl::InternalError(absl::StrCat(shard.Name(), ": FetchStep answered ", what));
}

class WorkerStep : public StepPlacement {
 public:
  explicit WorkerStep(const StepContext& context)
      : context_(context), share_({context.options->training.margin, context.options->head.embedding_dim}) {}

  absl::Status Begin(const StepInput& input) override {
    if (absl::Status status = CheckStepInput(input); !status.ok()) return status;
    if (input.chunk_count != 1) {
      return absl::InvalidArgumentError(absl::StrCat("compute at the worker takes a step in one part, not in ", input.chunk_count,
                                                     ": use compute at the shard for gradient accumulation"));
    }
    if (input.embeddings.size(1) != context_.options->head.embedding_dim) {
      return absl::InvalidArgumentError(
          absl::StrCat("embeddings are ", input.embeddings.size(1), " wide; the head's are ", context_.options->head.embedding_dim));
    }
    input_ = &input;
    all_embeddings_ = at::Tensor();
    own_gradients_ = at::Tensor();
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Attempt(int64_t incarnation, int32_t attempt) override {
    v1::StepKey key;
    key.set_head(context_.options->head.name);
    key.set_incarnation(incarnation);
    key.set_step(input_->step);
    key.set_attempt(attempt);

    v1::FetchStepRequest fetch_request;
    *fetch_request.mutable_key() = key;
    fetch_request.set_rank(context_.options->rank);
    fetch_request.set_labels(EncodeArray<int64_t>(input_->labels));
    fetch_request.mutable_parameters()->set_learning_rate(input_->learning_rate);
    EncodeComingLabels(input_->coming_labels, fetch_request.mutable_coming_labels());
    FetchCalls fetch([](ShardClient& shard, grpc::ClientContext* rpc, const v1::FetchStepRequest* request, v1::FetchStepResponse* response,
                        PendingCalls::Done done) { shard.centers().async()->FetchStep(rpc, request, response, std::move(done)); },
                     context_.policy);
    for (ShardClient* shard : context_.shards) fetch.Start(shard, &fetch_request);
    if (absl::Status status = fetch.Wait(); !status.ok()) return status;
    absl::StatusOr<StepSlices> slices = Parse(fetch);
    if (!slices.ok()) return slices.status();

    if (absl::Status status = GatherEmbeddings(*slices); !status.ok()) return status;
    SetRows(*slices);
    absl::StatusOr<Denominators> partial = share_.Forward(all_embeddings_, slices->target_rows);
    if (!partial.ok()) return partial.status();

    MergeCalls merge([](ShardClient& shard, grpc::ClientContext* rpc, const v1::MergeDenominatorsRequest* request,
                        v1::MergeDenominatorsResponse* response,
                        PendingCalls::Done done) { shard.centers().async()->MergeDenominators(rpc, request, response, std::move(done)); },
                     context_.policy);
    v1::MergeDenominatorsRequest merge_request;
    *merge_request.mutable_key() = key;
    merge_request.set_rank(context_.options->rank);
    *merge_request.mutable_denominators() = ToProto(*partial);
    ShardClient* const reducer = context_.shards[input_->step % context_.shards.size()];
    merge.Start(reducer, &merge_request);
    if (absl::Status status = merge.Wait(); !status.ok()) return status;
    absl::StatusOr<MergedDenominators> merged = ParseMerged(merge.response(0).merged());
    if (!merged.ok()) return absl::InternalError(absl::StrCat(reducer->Name(), ": ", merged.status().message()));
    const int64_t batch_size = slices->labels.size();
    if (static_cast<int64_t>(merged->log_z.size()) != batch_size) {
      return absl::InternalError(
          absl::StrCat(reducer->Name(), ": answered ", merged->log_z.size(), " denominators for ", batch_size, " samples"));
    }

    share_.AccumulateRowGradients(*merged, batch_size);
    std::vector<v1::ApplyGradientsRequest> apply_requests = SplitGradients(key, *slices);
    ApplyCalls apply(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::ApplyGradientsRequest* request, v1::ApplyGradientsResponse* response,
           PendingCalls::Done done) { shard.centers().async()->ApplyGradients(rpc, request, response, std::move(done)); },
        context_.policy);
    for (size_t k = 0; k < context_.shards.size(); ++k) apply.Start(context_.shards[k], &apply_requests[k]);
    // dX is computed and exchanged while the shards apply.
    if (absl::Status status = ReduceGradients(*slices, *merged, batch_size); !status.ok()) return status;
    if (absl::Status status = apply.Wait(); !status.ok()) return status;

    StepResult result;
    for (size_t k = 0; k < apply.size(); ++k) {
      if (!apply.response(k).committed()) return absl::InternalError(absl::StrCat(context_.shards[k]->Name(), ": did not commit"));
      result.row_count += apply.response(k).row_count();
    }
    result.embedding_gradients = own_gradients_.to(input_->embeddings.device());
    result.loss = merged->target_count == 0 ? 0.0 : merged->loss_sum / merged->target_count;
    result.sample_count = batch_size;
    result.target_count = merged->target_count;
    result.target_cosine_sum = merged->target_cosine_sum;
    result.degenerate_count = share_.degenerate_row_count() + share_.degenerate_embedding_count();
    result.wire_bytes = fetch.WireBytes() + merge.WireBytes() + apply.WireBytes();
    return result;
  }

 private:
  absl::StatusOr<StepSlices> Parse(const FetchCalls& fetch) const {
    const int rank = context_.options->rank;
    StepSlices slices;
    absl::flat_hash_map<int64_t, int32_t> row_of_class;
    for (size_t k = 0; k < fetch.size(); ++k) {
      const v1::FetchStepResponse& response = fetch.response(k);
      const ShardClient& shard = *context_.shards[k];
      absl::StatusOr<std::vector<int64_t>> ids = DecodeArray<int64_t>(response.class_ids(), "class_ids");
      if (!ids.ok()) return Malformed(shard, std::string(ids.status().message()));
      absl::StatusOr<at::Tensor> centers = ViewMatrix(response.centers(), context_.options->head.embedding_dim, "centers");
      if (!centers.ok()) return Malformed(shard, std::string(centers.status().message()));
      if (centers->size(0) != static_cast<int64_t>(ids->size())) {
        return Malformed(shard, absl::StrCat(centers->size(0), " centers for ", ids->size(), " classes"));
      }
      slices.first_row.push_back(slices.class_ids.size());
      for (int64_t id : *ids) {
        if (!row_of_class.emplace(id, static_cast<int32_t>(slices.class_ids.size())).second) {
          return Malformed(shard, absl::StrCat("class ", id, " twice"));
        }
        slices.class_ids.push_back(id);
      }
      slices.centers.push_back(*std::move(centers));
      absl::StatusOr<std::vector<int64_t>> labels = DecodeArray<int64_t>(response.all_labels(), "all_labels");
      if (!labels.ok()) return Malformed(shard, std::string(labels.status().message()));
      std::vector<int64_t> rank_sizes(response.rank_sizes().begin(), response.rank_sizes().end());
      if (k == 0) {
        slices.labels = *std::move(labels);
        slices.rank_sizes = std::move(rank_sizes);
      } else if (*labels != slices.labels || rank_sizes != slices.rank_sizes) {
        return absl::FailedPreconditionError(
            absl::StrCat(shard.Name(), ": has other labels for this step than ", context_.shards[0]->Name()));
      }
    }
    slices.first_row.push_back(slices.class_ids.size());
    int64_t total = 0;
    bool negative = false;
    for (int64_t size : slices.rank_sizes) {
      total += size;
      negative = negative || size < 0;
    }
    if (negative || static_cast<int>(slices.rank_sizes.size()) != context_.options->rank_count ||
        total != static_cast<int64_t>(slices.labels.size()) || slices.rank_sizes[rank] != static_cast<int64_t>(input_->labels.size())) {
      return Malformed(*context_.shards[0], absl::StrCat(slices.labels.size(), " labels of ", slices.rank_sizes.size(),
                                                         " ranks, which do not fit the ranks' batches"));
    }
    slices.target_rows.reserve(slices.labels.size());
    for (int64_t label : slices.labels) {
      const auto row = row_of_class.find(label);
      slices.target_rows.push_back(row == row_of_class.end() ? -1 : row->second);
    }
    return slices;
  }

  // A collective: once a step on every rank, whatever its attempts, so that all ranks call the same ones in the same order.
  absl::Status GatherEmbeddings(const StepSlices& slices) {
    if (all_embeddings_.defined()) return absl::OkStatus();
    absl::StatusOr<at::Tensor> all = context_.exchange->AllGatherRows(input_->embeddings.contiguous(), slices.rank_sizes);
    if (!all.ok()) return all.status();
    all_embeddings_ = all->contiguous();
    return absl::OkStatus();
  }

  // dX of all samples over this rank's rows, then the sum over ranks of this rank's own samples. A collective: once a step as well.
  absl::Status ReduceGradients(const StepSlices& slices, const MergedDenominators& merged, int64_t batch_size) {
    if (own_gradients_.defined()) return absl::OkStatus();
    absl::StatusOr<at::Tensor> own = context_.exchange->ReduceScatterRows(share_.EmbeddingGradients(merged, batch_size), slices.rank_sizes);
    if (!own.ok()) return own.status();
    own_gradients_ = own->clone();
    return absl::OkStatus();
  }

  void SetRows(const StepSlices& slices) {
    if (all_embeddings_.device().is_cpu()) {
      const int64_t dim = context_.options->head.embedding_dim;
      std::vector<const float*> rows;
      rows.reserve(slices.class_ids.size());
      for (const at::Tensor& centers : slices.centers) {
        const float* const first = centers.const_data_ptr<float>();
        for (int64_t j = 0; j < centers.size(0); ++j) rows.push_back(first + j * dim);
      }
      share_.SetRows(FloatRowView(static_cast<int>(dim), rows));
    } else {
      share_.SetRows(at::cat(slices.centers).to(all_embeddings_.device()));
    }
  }

  std::vector<v1::ApplyGradientsRequest> SplitGradients(const v1::StepKey& key, const StepSlices& slices) const {
    const at::Tensor gradients = share_.RowGradients().cpu();
    const absl::Span<const int64_t> ids(slices.class_ids);
    std::vector<v1::ApplyGradientsRequest> requests(context_.shards.size());
    for (size_t k = 0; k < requests.size(); ++k) {
      const int64_t first = slices.first_row[k];
      const int64_t count = slices.first_row[k + 1] - first;
      *requests[k].mutable_key() = key;
      requests[k].set_rank(context_.options->rank);
      requests[k].set_class_ids(EncodeArray<int64_t>(ids.subspan(first, count)));
      EncodeMatrix(gradients.narrow(0, first, count), DataType::kFloat32, requests[k].mutable_gradients());
    }
    return requests;
  }

  const StepContext context_;
  SoftmaxShare share_;
  const StepInput* input_ = nullptr;
  at::Tensor all_embeddings_;  // Of the step, once gathered.
  at::Tensor own_gradients_;   // Of the step, once reduced.
};

}  // namespace

std::unique_ptr<StepPlacement> MakeWorkerStep(const StepContext& context) { return std::make_unique<WorkerStep>(context); }

}  // namespace myriad
