#include "server/services/shard_peer_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/status.h"
#include "server/services/unary.h"
#include "server/services/vote_codec.h"

namespace myriad {
namespace {

absl::StatusOr<std::shared_ptr<TrainingSession>> FindSession(const Shard& shard, const v1::StepKey& key) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard.Find(key.head());
  if (!head.ok()) return head.status();
  return (*head)->SessionForPeer(key.incarnation());
}

}  // namespace

grpc::ServerUnaryReactor* ShardPeerService::Vote(grpc::CallbackServerContext* context, const v1::VoteRequest* request,
                                                 v1::VoteResponse* response) {
  absl::StatusOr<std::shared_ptr<TrainingSession>> session = FindSession(*shard_, request->key());
  if (!session.ok()) return FinishNow(context, session.status());
  absl::StatusOr<Ballot> ballot = ParseBallot(*request);
  if (!ballot.ok()) return FinishNow(context, ballot.status());
  const int shard_count = (*session)->options().shard_addresses.size();
  if (ballot->shard < 0 || ballot->shard >= shard_count) {
    return FinishNow(context,
                     absl::InvalidArgumentError(absl::StrCat("shard_index ", ballot->shard, " is outside [0, ", shard_count, ")")));
  }
  if (!(*session)->IsReducerOf(ballot->key.step)) {
    return FinishNow(context, absl::InvalidArgumentError(absl::StrCat("shard ", (*session)->options().shard_index,
                                                                      " is not the reducer of ", ballot->key.ToString())));
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*session)->reducer().Vote(*std::move(ballot), [reactor, response](const StepOutcome& outcome) {
    *response->mutable_outcome() = ToProto(outcome);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* ShardPeerService::GetOutcome(grpc::CallbackServerContext* context, const v1::GetOutcomeRequest* request,
                                                       v1::GetOutcomeResponse* response) {
  absl::StatusOr<std::shared_ptr<TrainingSession>> session = FindSession(*shard_, request->key());
  if (!session.ok()) return FinishNow(context, session.status());
  if (request->key().step() < 0) {
    return FinishNow(context, absl::InvalidArgumentError(absl::StrCat("step ", request->key().step(), " is negative")));
  }
  *response->mutable_outcome() = ToProto((*session)->GetOutcome(ParseVoteKey(*request)));
  return FinishNow(context, absl::OkStatus());
}

}  // namespace myriad
