#include "server/services/center_shard_service.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"
#include "server/services/row_stream.h"
#include "server/services/step_codec.h"
#include "server/services/unary.h"
#include "server/step/step_errors.h"

namespace myriad {
namespace {

constexpr size_t kMaxFetchedClasses = 1 << 20;

// The head and the run that a step's call belongs to.
struct StepTarget {
  std::shared_ptr<HeadShard> head;
  std::shared_ptr<TrainingSession> session;
};

absl::StatusOr<StepTarget> FindTarget(const Shard& shard, grpc::CallbackServerContext* context, const v1::StepKey& key) {
  if (context->IsCancelled()) return absl::CancelledError("the caller is gone");
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard.Find(key.head());
  if (!head.ok()) return head.status();
  absl::StatusOr<std::shared_ptr<TrainingSession>> session = (*head)->Session(key.incarnation());
  if (!session.ok()) return session.status();
  return StepTarget{*std::move(head), *std::move(session)};
}

absl::Status CheckPlacement(const StepTarget& target, Placement placement) {
  if (target.session->options().training.placement == placement) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("head '", target.head->spec().name, "' is open for compute at the ",
                                                    placement == Placement::kShard ? "worker" : "shard", "; the call is of compute at the ",
                                                    placement == Placement::kShard ? "shard" : "worker"));
}

// Answers a step's call: `fill` turns the reply of type Reply into the response.
template <typename Reply, typename Fill>
StepDone Answer(grpc::ServerUnaryReactor* reactor, Fill fill) {
  return [reactor, fill](const absl::StatusOr<std::shared_ptr<const RankReply>>& reply) {
    absl::Status status = reply.status();
    if (status.ok()) {
      status = CatchAll([&] {
        fill(std::get<Reply>(**reply));
        return absl::OkStatus();
      });
    }
    reactor->Finish(ToGrpcStatus(status));
  };
}

}  // namespace

grpc::ServerUnaryReactor* CenterShardService::OpenHead(grpc::CallbackServerContext* context, const v1::OpenHeadRequest* request,
                                                       v1::OpenHeadResponse* response) {
  absl::StatusOr<HeadSpec> head = ParseHeadSpec(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  absl::StatusOr<SessionOptions> session = ParseSession(*request, *head);
  if (!session.ok()) return FinishNow(context, session.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  shard_->Open(*head, *std::move(session), [reactor, response](const absl::StatusOr<HeadShard::Info>& info) {
    if (info.ok()) {
      response->set_committed_steps(info->committed_steps);
      response->set_row_count(info->row_count);
    }
    reactor->Finish(ToGrpcStatus(info.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* CenterShardService::ListHeads(grpc::CallbackServerContext* context, const v1::ListHeadsRequest*,
                                                        v1::ListHeadsResponse* response) {
  for (const std::shared_ptr<HeadShard>& head : shard_->heads()) *response->add_heads() = ToProto(head->info());
  return FinishNow(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* CenterShardService::HeadStep(grpc::CallbackServerContext* context, const v1::HeadStepRequest* request,
                                                       v1::HeadStepResponse* response) {
  absl::StatusOr<StepTarget> target = FindTarget(*shard_, context, request->key());
  if (!target.ok()) return FinishNow(context, target.status());
  const absl::StatusOr<bool> evaluate = ParseEvaluate(request->mode());
  if (!evaluate.ok()) return FinishNow(context, evaluate.status());
  if (!*evaluate) {
    if (absl::Status status = CheckPlacement(*target, Placement::kShard); !status.ok()) return FinishNow(context, status);
  }
  const absl::StatusOr<DataType> dtype = ParseDataType(request->embeddings().dtype());
  StepCall call = ParseHeadStep(*request, *evaluate, target->head->spec(), target->session->options());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  call.done = Answer<HeadStepReply>(reactor, [response, dtype = dtype.value_or(DataType::kFloat32)](const HeadStepReply& reply) {
    FillResponse(reply, dtype, response);
  });
  (*evaluate ? target->session->evaluate() : target->session->train()).Call(std::move(call));
  return reactor;
}

grpc::ServerUnaryReactor* CenterShardService::FetchStep(grpc::CallbackServerContext* context, const v1::FetchStepRequest* request,
                                                        v1::FetchStepResponse* response) {
  absl::StatusOr<StepTarget> target = FindTarget(*shard_, context, request->key());
  if (!target.ok()) return FinishNow(context, target.status());
  if (absl::Status status = CheckPlacement(*target, Placement::kWorker); !status.ok()) return FinishNow(context, status);
  StepCall call = ParseFetchStep(*request, target->session->options());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  call.done = Answer<FetchReply>(reactor, [response](const FetchReply& reply) { FillResponse(reply, response); });
  target->session->train().Call(std::move(call));
  return reactor;
}

grpc::ServerUnaryReactor* CenterShardService::MergeDenominators(grpc::CallbackServerContext* context,
                                                                const v1::MergeDenominatorsRequest* request,
                                                                v1::MergeDenominatorsResponse* response) {
  absl::StatusOr<StepTarget> target = FindTarget(*shard_, context, request->key());
  if (!target.ok()) return FinishNow(context, target.status());
  if (absl::Status status = CheckPlacement(*target, Placement::kWorker); !status.ok()) return FinishNow(context, status);
  const int64_t step = request->key().step();
  if (step < 0 || !target->session->IsReducerOf(step)) {
    return FinishNow(context, absl::FailedPreconditionError(
                                  absl::StrCat("shard ", target->session->options().shard_index, " is not the reducer of step ", step)));
  }
  StepCall call = ParseMerge(*request, target->session->options());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  call.done = Answer<MergeReply>(reactor, [response](const MergeReply& reply) { FillResponse(reply, response); });
  target->session->train().Call(std::move(call));
  return reactor;
}

grpc::ServerUnaryReactor* CenterShardService::ApplyGradients(grpc::CallbackServerContext* context, const v1::ApplyGradientsRequest* request,
                                                             v1::ApplyGradientsResponse* response) {
  absl::StatusOr<StepTarget> target = FindTarget(*shard_, context, request->key());
  if (!target.ok()) return FinishNow(context, target.status());
  if (absl::Status status = CheckPlacement(*target, Placement::kWorker); !status.ok()) return FinishNow(context, status);
  StepCall call = ParseApply(*request, target->head->spec(), target->session->options());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  call.done = Answer<ApplyReply>(reactor, [response](const ApplyReply& reply) { FillResponse(reply, response); });
  target->session->train().Call(std::move(call));
  return reactor;
}

grpc::ServerWriteReactor<v1::FetchCentersResponse>* CenterShardService::FetchCenters(grpc::CallbackServerContext* context,
                                                                                     const v1::FetchCentersRequest* request) {
  using Stream = MessageStream<v1::FetchCentersResponse>;
  auto class_ids = std::make_shared<std::vector<int64_t>>();
  std::shared_ptr<HeadShard> head;
  absl::Status status = [&] {
    absl::StatusOr<std::shared_ptr<HeadShard>> found = shard_->Find(request->head());
    if (!found.ok()) return found.status();
    head = *std::move(found);
    absl::StatusOr<std::vector<int64_t>> ids = DecodeArray<int64_t>(request->class_ids(), "class_ids");
    if (!ids.ok()) return ids.status();
    if (ids->size() > kMaxFetchedClasses) {
      return absl::InvalidArgumentError(absl::StrCat(ids->size(), " class ids in one call; at most ", kMaxFetchedClasses, " are allowed"));
    }
    *class_ids = *std::move(ids);
    return head->CheckClassIds(*class_ids);
  }();
  const bool with_slots = request->with_slots();
  auto next = std::make_shared<size_t>(0);
  auto* stream = new Stream(
      context, shard_->timer(),
      [status, head, class_ids, next, with_slots](Stream::Made made) {
        if (!status.ok()) return made(status);
        if (*next == class_ids->size()) return made(std::unique_ptr<v1::FetchCentersResponse>());
        const size_t count = std::min<size_t>(RowsPerMessage(head->spec(), with_slots), class_ids->size() - *next);
        std::vector<int64_t> part(class_ids->begin() + *next, class_ids->begin() + *next + count);
        *next += count;
        head->Read(std::move(part), with_slots, [made = std::move(made), with_slots](const absl::StatusOr<HeadShard::Rows>& rows) {
          if (!rows.ok()) return made(rows.status());
          auto message = std::make_unique<v1::FetchCentersResponse>();
          message->set_class_ids(EncodeArray<int64_t>(rows->class_ids));
          EncodeMatrix(rows->weights, DataType::kFloat32, message->mutable_centers());
          if (with_slots) EncodeMatrix(rows->slots, DataType::kFloat32, message->mutable_slots());
          message->set_exists(rows->exists.data(), rows->exists.size());
          message->set_last_step(EncodeArray<int64_t>(rows->last_step));
          made(std::move(message));
        });
      },
      [] {});
  stream->Start();
  return stream;
}

}  // namespace myriad
