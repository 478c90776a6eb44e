#include "client/head_client.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/row_transfer.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "client/step_placement.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

// What a step may take beyond waiting for ranks and shards: its own arithmetic, and the apply of the step before.
constexpr absl::Duration kStepMargin = absl::Seconds(15);

using ListHeadsCalls = ShardCalls<v1::ListHeadsRequest, v1::ListHeadsResponse>;
using OpenHeadCalls = ShardCalls<v1::OpenHeadRequest, v1::OpenHeadResponse>;

void CallListHeads(ShardClient& shard, grpc::ClientContext* rpc, const v1::ListHeadsRequest* request, v1::ListHeadsResponse* response,
                   PendingCalls::Done done) {
  shard.centers().async()->ListHeads(rpc, request, response, std::move(done));
}

// LibTorch throws; here its exceptions end.
template <typename Body>
auto Guarded(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("tensor arithmetic failed: ", error.what()));
  }
}

class HeadClientImpl : public HeadClient {
 public:
  explicit HeadClientImpl(const Options& options) : options_(options) {
    for (size_t k = 0; k < options_.shard_addresses.size(); ++k) {
      owned_shards_.push_back(std::make_unique<ShardClient>(static_cast<int>(k), options_.shard_addresses[k]));
      shards_.push_back(owned_shards_.back().get());
    }
    policy_.shard_wait = options_.shard_wait;
    policy_.deadline = options_.step_deadline + options_.shard_wait + kStepMargin;
    if (options_.exchange == nullptr) {
      single_rank_ = MakeSingleRankExchange();
      options_.exchange = single_rank_.get();
    }
    const StepContext context{&options_, shards_, policy_, options_.exchange};
    shard_step_ = MakeShardStep(context);
    if (options_.training.placement == Placement::kWorker) worker_step_ = MakeWorkerStep(context);
    rows_ = std::make_unique<RowTransfer>(options_.head, shards_, policy_);
  }

  absl::Status WaitForShards(absl::Duration timeout) override {
    CallPolicy policy = policy_;
    policy.deadline = timeout;
    policy.shard_wait = timeout;
    policy.lost_code = absl::StatusCode::kUnavailable;
    ListHeadsCalls calls(CallListHeads, policy);
    const v1::ListHeadsRequest request;
    for (ShardClient* shard : shards_) calls.Start(shard, &request);
    return calls.Wait();
  }

  absl::StatusOr<HeadOnShards> Describe() override {
    ListHeadsCalls calls(CallListHeads, policy_);
    const v1::ListHeadsRequest request;
    for (ShardClient* shard : shards_) calls.Start(shard, &request);
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    HeadOnShards found;
    for (size_t k = 0; k < calls.size(); ++k) {
      for (const v1::HeadInfo& info : calls.response(k).heads()) {
        if (info.head().name() != options_.head.name) continue;
        found.incarnation = std::max(found.incarnation, info.incarnation());
        found.committed_steps = std::max(found.committed_steps, info.committed_steps());
        found.class_count = std::max(found.class_count, info.head().class_count());
        found.row_count += info.row_count();
      }
    }
    return found;
  }

  absl::StatusOr<int64_t> MintIncarnation() override {
    const absl::StatusOr<HeadOnShards> known = Describe();
    if (!known.ok()) return known.status();
    return known->incarnation + 1;
  }

  absl::StatusOr<int64_t> Open(int64_t incarnation) override {
    absl::optional<int64_t> expected_step = options_.expected_step;
    if (options_.accept_mixed_steps && !expected_step.has_value()) {
      // Each shard knows the newest of its own rows alone. The first rank that opens the head brings all shards to the newest of all.
      const absl::StatusOr<HeadOnShards> known = Describe();
      if (!known.ok()) return known.status();
      expected_step = known->committed_steps;
    }
    std::vector<v1::OpenHeadRequest> requests(shards_.size());
    OpenHeadCalls calls([](ShardClient& shard, grpc::ClientContext* rpc, const v1::OpenHeadRequest* request, v1::OpenHeadResponse* response,
                           PendingCalls::Done done) { shard.centers().async()->OpenHead(rpc, request, response, std::move(done)); },
                        policy_);
    for (size_t k = 0; k < shards_.size(); ++k) {
      v1::OpenHeadRequest& request = requests[k];
      *request.mutable_head() = ToProto(options_.head);
      *request.mutable_training() = ToProto(options_.training);
      request.set_incarnation(incarnation);
      request.set_shard_index(static_cast<int32_t>(k));
      for (const std::string& address : options_.shard_addresses) request.add_shard_addresses(address);
      request.set_rank_count(options_.rank_count);
      request.set_labels_per_step(options_.labels_per_step);
      request.set_step_deadline_ms(absl::ToInt64Milliseconds(options_.step_deadline));
      request.set_shard_wait_ms(absl::ToInt64Milliseconds(options_.shard_wait));
      if (expected_step.has_value()) request.set_expected_step(*expected_step);
      request.set_accept_mixed_steps(options_.accept_mixed_steps);
      calls.Start(shards_[k], &request);
    }
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    const int64_t committed = calls.response(0).committed_steps();
    for (size_t k = 1; k < calls.size(); ++k) {
      if (calls.response(k).committed_steps() != committed) {
        return absl::FailedPreconditionError(absl::StrCat(shards_[k]->Name(), ": has committed ", calls.response(k).committed_steps(),
                                                          " steps of head '", options_.head.name, "', but ", shards_[0]->Name(), " ",
                                                          committed));
      }
    }
    incarnation_ = incarnation;
    return committed;
  }

  absl::StatusOr<StepResult> Step(const StepInput& input) override {
    if (incarnation_ == 0) return absl::FailedPreconditionError(absl::StrCat("head '", options_.head.name, "' is not open"));
    return Guarded([&]() -> absl::StatusOr<StepResult> {
      // Evaluation moves nothing, so it is the same wherever it is computed; the shards have the rows.
      StepPlacement& placement = worker_step_ != nullptr && !input.evaluate ? *worker_step_ : *shard_step_;
      StepInput numbered = input;
      Attempts& attempts = input.evaluate ? evaluations_ : steps_;
      if (input.evaluate && input.chunk > 0) {
        numbered.step = attempts.step;
      } else if (input.evaluate) {
        // Evaluations have numbers of their own on the shards, each used once.
        numbered.step = std::max(input.step, attempts.step + 1);
      }
      if (absl::Status status = placement.Begin(numbered); !status.ok()) return status;
      if (numbered.step != attempts.step) attempts = {numbered.step, 0};
      for (int tries = 1;; ++tries) {
        absl::StatusOr<StepResult> result = placement.Attempt(incarnation_, attempts.next);
        if (result.ok()) return result;
        // Whoever asks for this step again, after whatever error, must not meet what is left of this attempt.
        StepAbort abort;
        GetStepAbort(result.status(), &abort);
        attempts.next = std::max(abort.next_attempt, attempts.next + 1);
        if (result.status().code() != absl::StatusCode::kAborted || tries >= options_.max_attempts) return result;
      }
    });
  }

  absl::StatusOr<at::Tensor> FetchCenters(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) override {
    return Guarded([&] { return rows_->Fetch(class_ids, exists); });
  }

  absl::Status ReadRows(bool with_slots, const RowVisitor& visitor) override {
    return Guarded([&]() -> absl::Status { return rows_->Read(with_slots, visitor); });
  }

  absl::Status WriteRows(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) override {
    return Guarded([&]() -> absl::Status { return rows_->Write(class_ids, weights, slots); });
  }

 private:
  struct Attempts {
    int64_t step = -1;  // The last one asked for.
    int32_t next = 0;   // What its next try uses.
  };

  Options options_;
  CallPolicy policy_;
  std::unique_ptr<RankExchange> single_rank_;
  std::vector<std::unique_ptr<ShardClient>> owned_shards_;
  std::vector<ShardClient*> shards_;
  std::unique_ptr<StepPlacement> shard_step_;
  std::unique_ptr<StepPlacement> worker_step_;  // Only with Placement::kWorker.
  std::unique_ptr<RowTransfer> rows_;
  int64_t incarnation_ = 0;  // 0 until Open.
  Attempts steps_;
  Attempts evaluations_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HeadClient>> HeadClient::Create(const Options& options) {
  if (absl::Status status = Validate(options.head); !status.ok()) return status;
  if (absl::Status status = Validate(options.training, options.head); !status.ok()) return status;
  if (options.shard_addresses.empty()) return absl::InvalidArgumentError("no shard address is given");
  for (const std::string& address : options.shard_addresses) {
    if (address.rfind(':') == std::string::npos || address.rfind(':') + 1 == address.size()) {
      return absl::InvalidArgumentError(absl::StrCat("shard address '", address, "' is not host:port"));
    }
  }
  if (options.rank_count < 1 || options.rank < 0 || options.rank >= options.rank_count) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", options.rank, " of ", options.rank_count, " does not exist"));
  }
  if (options.max_attempts < 1) return absl::InvalidArgumentError(absl::StrCat("max_attempts is ", options.max_attempts, "; at least 1"));
  if (options.step_deadline <= absl::ZeroDuration() || options.shard_wait <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("step_deadline and shard_wait must be longer than nothing");
  }
  if (options.exchange == nullptr && options.rank_count > 1 && options.training.placement == Placement::kWorker) {
    return absl::InvalidArgumentError(absl::StrCat("compute at the worker with ", options.rank_count, " ranks needs a rank exchange"));
  }
  if (options.exchange != nullptr && (options.exchange->rank() != options.rank || options.exchange->rank_count() != options.rank_count)) {
    return absl::InvalidArgumentError(absl::StrCat("the rank exchange is of rank ", options.exchange->rank(), " of ",
                                                   options.exchange->rank_count(), ", the client of rank ", options.rank, " of ",
                                                   options.rank_count));
  }
  return std::unique_ptr<HeadClient>(std::make_unique<HeadClientImpl>(options));
}

}  // namespace myriad
