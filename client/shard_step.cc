#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/step_placement.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

using HeadStepCalls = ShardCalls<v1::HeadStepRequest, v1::HeadStepResponse>;

class ShardStep : public StepPlacement {
 public:
  explicit ShardStep(const StepContext& context) : context_(context) {}

  absl::Status Begin(const StepInput& input) override {
    if (absl::Status status = CheckStepInput(input); !status.ok()) return status;
    device_ = input.embeddings.device();
    row_count_ = input.embeddings.size(0);
    request_.Clear();
    request_.set_rank(context_.options->rank);
    request_.set_mode(input.evaluate ? v1::STEP_MODE_EVALUATE : v1::STEP_MODE_TRAIN);
    request_.mutable_parameters()->set_learning_rate(input.learning_rate);
    request_.set_chunk(input.chunk);
    request_.set_chunk_count(input.chunk_count);
    EncodeMatrix(input.embeddings.cpu(), context_.options->wire_dtype, request_.mutable_embeddings());
    request_.set_labels(EncodeArray<int64_t>(input.labels));
    if (input.chunk == 0 && input.chunk_count > 1) request_.set_step_labels(EncodeArray<int64_t>(input.step_labels));
    request_.mutable_key()->set_head(context_.options->head.name);
    request_.mutable_key()->set_step(input.step);
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Attempt(int64_t incarnation, int32_t attempt) override {
    request_.mutable_key()->set_incarnation(incarnation);
    request_.mutable_key()->set_attempt(attempt);
    HeadStepCalls calls([](ShardClient& shard, grpc::ClientContext* rpc, const v1::HeadStepRequest* request, v1::HeadStepResponse* response,
                           PendingCalls::Done done) { shard.centers().async()->HeadStep(rpc, request, response, std::move(done)); },
                        context_.policy);
    // Nothing in the request is a shard's own, so all of them get the same one.
    for (ShardClient* shard : context_.shards) calls.Start(shard, &request_);
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    return Sum(calls);
  }

 private:
  // Shares are added in the order of the shards: the sum repeats bit for bit.
  absl::StatusOr<StepResult> Sum(const HeadStepCalls& calls) const {
    StepResult result;
    at::Tensor total;
    for (size_t k = 0; k < calls.size(); ++k) {
      const v1::HeadStepResponse& response = calls.response(k);
      const std::string name = context_.shards[k]->Name();
      absl::StatusOr<at::Tensor> share =
          ViewMatrix(response.embedding_gradients(), context_.options->head.embedding_dim, "embedding_gradients");
      if (!share.ok()) return absl::InternalError(absl::StrCat(name, ": ", share.status().message()));
      if (share->size(0) != row_count_) {
        return absl::InternalError(absl::StrCat(name, ": answered ", share->size(0), " rows of gradients for ", row_count_, " embeddings"));
      }
      // The first share is copied: a view ends with its response.
      if (k == 0) {
        total = share->clone();
      } else {
        total.add_(*share);
      }
      const v1::StepStatistics& statistics = response.statistics();
      if (k == 0) {
        result.loss = statistics.loss();
        result.sample_count = statistics.sample_count();
        result.target_count = statistics.target_count();
        result.target_cosine_sum = statistics.target_cosine_sum();
      }
      result.row_count += statistics.row_count();
      result.degenerate_count += statistics.degenerate_count();
      result.shard_seconds.gather = std::max(result.shard_seconds.gather, statistics.gather_seconds());
      result.shard_seconds.forward = std::max(result.shard_seconds.forward, statistics.forward_seconds());
      result.shard_seconds.vote = std::max(result.shard_seconds.vote, statistics.vote_seconds());
      result.shard_seconds.previous_apply = std::max(result.shard_seconds.previous_apply, statistics.apply_seconds());
    }
    result.embedding_gradients = total.to(device_);
    result.wire_bytes = calls.WireBytes();
    return result;
  }

  const StepContext context_;
  v1::HeadStepRequest request_;
  at::Device device_ = at::kCPU;
  int64_t row_count_ = 0;
};

}  // namespace

std::unique_ptr<StepPlacement> MakeShardStep(const StepContext& context) { return std::make_unique<ShardStep>(context); }

absl::Status CheckStepInput(const StepInput& input) {
  const at::Tensor& x = input.embeddings;
  if (!x.defined() || x.dim() != 2 || x.scalar_type() != at::kFloat) {
    return absl::InvalidArgumentError("embeddings are not a 2-d float32 tensor");
  }
  if (x.size(0) != static_cast<int64_t>(input.labels.size())) {
    return absl::InvalidArgumentError(absl::StrCat(x.size(0), " embeddings for ", input.labels.size(), " labels"));
  }
  if (input.chunk_count < 1 || input.chunk < 0 || input.chunk >= input.chunk_count) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", input.chunk, " of ", input.chunk_count, " does not exist"));
  }
  return absl::OkStatus();
}

}  // namespace myriad
