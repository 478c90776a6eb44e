#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/step_placement.h"
#include "proto/wire/coming_labels.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

using HeadStepCalls = ShardCalls<v1::HeadStepRequest, v1::HeadStepResponse>;

// The chunks of a step are kept until the next step: an attempt that ends in a later chunk takes those before it with it, and the next one
// begins at chunk 0. Embeddings and rows are the same then, so the replies to chunks that were answered before are those of before.
class ShardStep : public StepPlacement {
 public:
  explicit ShardStep(const StepContext& context) : context_(context) {}

  absl::Status Begin(const StepInput& input) override {
    if (absl::Status status = CheckStepInput(input); !status.ok()) return status;
    const v1::StepMode mode = input.evaluate ? v1::STEP_MODE_EVALUATE : v1::STEP_MODE_TRAIN;
    const bool follows = input.chunk == 0 || (static_cast<int>(chunks_.size()) >= input.chunk && chunks_[0].key().step() == input.step &&
                                              chunks_[0].mode() == mode);
    if (!follows) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", input.chunk, " of step ", input.step, " comes without the chunks before it: a step begins at chunk 0"));
    }
    chunks_.resize(input.chunk + 1);  // What an earlier step, or an earlier try of this chunk, has left goes.
    answered_ = std::min(answered_, input.chunk);
    v1::HeadStepRequest& request = chunks_.back();
    request.Clear();
    request.set_rank(context_.options->rank);
    request.set_mode(mode);
    request.mutable_parameters()->set_learning_rate(input.learning_rate);
    request.set_chunk(input.chunk);
    request.set_chunk_count(input.chunk_count);
    EncodeMatrix(input.embeddings.cpu(), context_.options->wire_dtype, request.mutable_embeddings());
    request.set_labels(EncodeArray<int64_t>(input.labels));
    if (input.chunk == 0 && input.chunk_count > 1) request.set_step_labels(EncodeArray<int64_t>(input.step_labels));
    if (input.chunk == 0) EncodeComingLabels(input.coming_labels, request.mutable_coming_labels());
    request.mutable_key()->set_head(context_.options->head.name);
    request.mutable_key()->set_step(input.step);
    device_ = input.embeddings.device();
    row_count_ = input.embeddings.size(0);
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Attempt(int64_t incarnation, int32_t attempt) override {
    if (attempt != attempt_) answered_ = 0;
    attempt_ = attempt;
    while (true) {
      v1::HeadStepRequest& request = chunks_[answered_];
      request.mutable_key()->set_incarnation(incarnation);
      request.mutable_key()->set_attempt(attempt);
      HeadStepCalls calls(
          [](ShardClient& shard, grpc::ClientContext* rpc, const v1::HeadStepRequest* request, v1::HeadStepResponse* response,
             PendingCalls::Done done) { shard.centers().async()->HeadStep(rpc, request, response, std::move(done)); },
          context_.policy);
      // Nothing in the request is a shard's own, so all of them get the same one.
      for (ShardClient* shard : context_.shards) calls.Start(shard, &request);
      if (absl::Status status = calls.Wait(); !status.ok()) return status;
      if (++answered_ == static_cast<int>(chunks_.size())) return Sum(calls);
    }
  }

 private:
  // The last chunk's. Shares are added in the order of the shards: the sum repeats bit for bit.
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
      result.row_sources.hits += statistics.hit_count();
      result.row_sources.awaited += statistics.awaited_count();
      result.row_sources.misses += statistics.miss_count();
      result.row_sources.created += statistics.created_count();
      result.row_sources.disk_wait_seconds = std::max(result.row_sources.disk_wait_seconds, statistics.disk_wait_seconds());
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
  std::vector<v1::HeadStepRequest> chunks_;  // Of the step, up to the one that was begun last.
  int answered_ = 0;                         // How many of them `attempt_` has answered.
  int32_t attempt_ = 0;
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
