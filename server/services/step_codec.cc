#include "server/services/step_codec.h"

#include <limits>
#include <string>
#include <tuple>
#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "head/row_optimizer.h"
#include "proto/wire/coming_labels.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"
#include "server/step/worker_step_work.h"

namespace myriad {
namespace {

constexpr int kMaxShards = 4096;
constexpr int kMaxRanks = 65536;
constexpr int64_t kMaxMilliseconds = int64_t{24} * 3600 * 1000;

StepCall CallOf(const v1::StepKey& key, int rank) {
  StepCall call;
  call.step = key.step();
  call.attempt = key.attempt();
  call.rank = rank;
  return call;
}

void SetLearningRate(double learning_rate, const OptimizerOptions& optimizer, StepCall* call) {
  call->has_learning_rate = true;
  call->learning_rate = learning_rate;
  if (!IsUsableRate(optimizer, learning_rate)) {
    call->invalid = absl::InvalidArgumentError(absl::StrCat("rank ", call->rank, ": learning_rate ", learning_rate, " with rate_scale ",
                                                            optimizer.rate_scale, " is not a number >= 0 that is finite in float32"));
  }
}

// `value` if it can be had, else leaves `*out` and marks the call as invalid.
template <typename T>
void Take(absl::StatusOr<T> value, T* out, StepCall* call) {
  if (value.ok()) {
    *out = *std::move(value);
  } else if (call->invalid.ok()) {
    call->invalid = Annotate(value.status(), absl::StrCat("rank ", call->rank));
  }
}

std::string BytesOf(absl::Span<const int64_t> values) { return EncodeArray<int64_t>(values); }

}  // namespace

StepCall ParseHeadStep(const v1::HeadStepRequest& request, bool evaluate, const HeadSpec& head, const SessionOptions& session) {
  StepCall call = CallOf(request.key(), request.rank());
  call.phase = request.chunk();
  call.phase_count = request.chunk_count() == 0 ? 1 : request.chunk_count();
  HeadStepPart part;
  part.embeddings = at::empty({0, head.embedding_dim}, at::kFloat);
  if (!evaluate) SetLearningRate(request.parameters().learning_rate(), session.training.optimizer, &call);
  Take(ViewMatrix(request.embeddings(), head.embedding_dim, "embeddings"), &part.embeddings, &call);
  Take(DecodeArray<int64_t>(request.labels(), "labels"), &part.labels, &call);
  Take(DecodeArray<int64_t>(request.step_labels(), "step_labels"), &part.step_labels, &call);
  part.coming_labels = DecodeComingLabels(request.coming_labels());
  if (call.invalid.ok() && part.embeddings.size(0) != static_cast<int64_t>(part.labels.size())) {
    call.invalid = absl::InvalidArgumentError(
        absl::StrCat("rank ", call.rank, ": ", part.embeddings.size(0), " embeddings, ", part.labels.size(), " labels"));
  }
  Digester digester;
  digester.Add(int64_t{request.rank()}).Add(int64_t{call.phase}).Add(int64_t{call.phase_count}).Add(int64_t{request.mode()});
  digester.Add(call.learning_rate).Add(int64_t{request.embeddings().dtype()}).Add(request.embeddings().rows());
  digester.Add(request.embeddings().cols()).Add(request.embeddings().data()).Add(request.labels()).Add(request.step_labels());
  call.digest = digester.Finish();
  call.part = std::move(part);
  return call;
}

StepCall ParseFetchStep(const v1::FetchStepRequest& request, const SessionOptions& session) {
  StepCall call = CallOf(request.key(), request.rank());
  call.phase = WorkerPhases::kFetch;
  call.phase_count = WorkerPhases(call.step, session.shard_index, session.shard_addresses.size()).count;
  FetchPart part;
  SetLearningRate(request.parameters().learning_rate(), session.training.optimizer, &call);
  Take(DecodeArray<int64_t>(request.labels(), "labels"), &part.labels, &call);
  part.coming_labels = DecodeComingLabels(request.coming_labels());
  call.digest = Digester().Add(int64_t{request.rank()}).Add(call.learning_rate).Add(request.labels()).Finish();
  call.part = std::move(part);
  return call;
}

StepCall ParseMerge(const v1::MergeDenominatorsRequest& request, const SessionOptions& session) {
  StepCall call = CallOf(request.key(), request.rank());
  call.phase = WorkerPhases::kMerge;
  call.phase_count = WorkerPhases(call.step, session.shard_index, session.shard_addresses.size()).count;
  const v1::Denominators& message = request.denominators();
  MergePart part;
  Take(ParseDenominators(message, message.max_logit().size() / sizeof(float)), &part.denominators, &call);
  Digester digester;
  digester.Add(int64_t{request.rank()}).Add(message.max_logit()).Add(message.sum_exp()).Add(message.target_index());
  call.digest = digester.Add(message.target_logit()).Add(message.target_cosine()).Finish();
  call.part = std::move(part);
  return call;
}

StepCall ParseApply(const v1::ApplyGradientsRequest& request, const HeadSpec& head, const SessionOptions& session) {
  StepCall call = CallOf(request.key(), request.rank());
  const WorkerPhases phases(call.step, session.shard_index, session.shard_addresses.size());
  call.phase = phases.apply;
  call.phase_count = phases.count;
  ApplyPart part;
  part.gradients = at::empty({0, head.embedding_dim}, at::kFloat);
  Take(DecodeArray<int64_t>(request.class_ids(), "class_ids"), &part.class_ids, &call);
  Take(ViewMatrix(request.gradients(), head.embedding_dim, "gradients"), &part.gradients, &call);
  Digester digester;
  digester.Add(int64_t{request.rank()}).Add(request.class_ids()).Add(int64_t{request.gradients().dtype()});
  call.digest = digester.Add(request.gradients().rows()).Add(request.gradients().data()).Finish();
  call.part = std::move(part);
  return call;
}

void FillResponse(const HeadStepReply& reply, DataType dtype, v1::HeadStepResponse* response) {
  EncodeMatrix(reply.embedding_gradients, dtype, response->mutable_embedding_gradients());
  const ChunkStatistics& from = reply.statistics;
  v1::StepStatistics* to = response->mutable_statistics();
  to->set_loss(from.loss);
  to->set_sample_count(from.sample_count);
  to->set_target_count(from.target_count);
  to->set_target_cosine_sum(from.target_cosine_sum);
  to->set_row_count(from.row_count);
  to->set_degenerate_count(from.degenerate_count);
  to->set_hit_count(from.rows.hits);
  to->set_awaited_count(from.rows.awaited);
  to->set_miss_count(from.rows.misses);
  to->set_created_count(from.rows.created);
  to->set_disk_wait_seconds(from.rows.disk_wait_seconds);
  to->set_gather_seconds(from.gather_seconds);
  to->set_forward_seconds(from.forward_seconds);
  to->set_vote_seconds(from.vote_seconds);
  to->set_apply_seconds(from.apply_seconds);
}

void FillResponse(const FetchReply& reply, v1::FetchStepResponse* response) {
  response->set_class_ids(BytesOf(reply.class_ids));
  EncodeMatrix(reply.centers, DataType::kFloat32, response->mutable_centers());
  response->set_all_labels(BytesOf(*reply.all_labels));
  for (int32_t size : *reply.rank_sizes) response->add_rank_sizes(size);
}

void FillResponse(const MergeReply& reply, v1::MergeDenominatorsResponse* response) {
  *response->mutable_merged() = ToProto(*reply.merged);
}

void FillResponse(const ApplyReply& reply, v1::ApplyGradientsResponse* response) {
  response->set_committed(true);
  response->set_row_count(reply.row_count);
}

absl::StatusOr<SessionOptions> ParseSession(const v1::OpenHeadRequest& request, const HeadSpec& head) {
  SessionOptions session;
  absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(request.training(), head);
  if (!training.ok()) return training.status();
  session.training = *std::move(training);
  session.incarnation = request.incarnation();
  session.class_count = head.class_count;
  session.shard_index = request.shard_index();
  session.shard_addresses.assign(request.shard_addresses().begin(), request.shard_addresses().end());
  session.rank_count = request.rank_count();
  const auto out_of_range = [](const char* field, int64_t value, int64_t low, int64_t high) {
    return absl::InvalidArgumentError(absl::StrCat(field, " ", value, " is outside [", low, ", ", high, "]"));
  };
  const int shards = session.shard_addresses.size();
  if (session.incarnation < 1) return out_of_range("incarnation", session.incarnation, 1, std::numeric_limits<int64_t>::max());
  if (shards < 1 || shards > kMaxShards) return out_of_range("shard_addresses: their number", shards, 1, kMaxShards);
  if (session.shard_index < 0 || session.shard_index >= shards) return out_of_range("shard_index", session.shard_index, 0, shards - 1);
  if (session.rank_count < 1 || session.rank_count > kMaxRanks) return out_of_range("rank_count", session.rank_count, 1, kMaxRanks);
  for (const auto& [field, value, target] : {std::make_tuple("step_deadline_ms", request.step_deadline_ms(), &session.step_deadline),
                                             std::make_tuple("shard_wait_ms", request.shard_wait_ms(), &session.shard_wait)}) {
    if (value < 0 || value > kMaxMilliseconds) return out_of_range(field, value, 0, kMaxMilliseconds);
    if (value > 0) *target = absl::Milliseconds(value);
  }
  if (request.has_expected_step()) {
    if (request.expected_step() < 0) return out_of_range("expected_step", request.expected_step(), 0, std::numeric_limits<int64_t>::max());
    session.expected_step = request.expected_step();
  }
  session.labels_per_step = request.labels_per_step();
  if (session.labels_per_step < 0) {
    return out_of_range("labels_per_step", session.labels_per_step, 0, std::numeric_limits<int64_t>::max());
  }
  session.accept_mixed_steps = request.accept_mixed_steps();
  return session;
}

v1::HeadInfo ToProto(const HeadShard::Info& info) {
  v1::HeadInfo message;
  *message.mutable_head() = ToProto(info.head);
  message.set_incarnation(info.incarnation);
  message.set_committed_steps(info.committed_steps);
  message.set_row_count(info.row_count);
  message.set_shard_index(info.shard_index);
  message.set_shard_count(info.shard_count);
  if (info.training) *message.mutable_training() = ToProto(*info.training);
  if (info.mixed_steps) {
    message.mutable_mixed_steps()->set_oldest(info.mixed_steps->oldest);
    message.mutable_mixed_steps()->set_newest(info.mixed_steps->newest);
  }
  return message;
}

}  // namespace myriad
