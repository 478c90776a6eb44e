#include "server/services/shard_peer_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/status.h"
#include "server/services/unary.h"
#include "server/services/vote_codec.h"
#include "server/step/step_errors.h"
#include "server/step/vote.h"
#include "server/training_session.h"

namespace myriad {
namespace {

absl::StatusOr<std::shared_ptr<TrainingSession>> FindSession(const Shard& shard, const v1::StepKey& key) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard.Find(key.head());
  if (!head.ok()) return head.status();
  return (*head)->SessionForPeer(key.incarnation());
}

// INVALID_ARGUMENT unless the caller says that it is another shard of the head.
absl::Status CheckPeer(const SessionOptions& session, int shard) {
  const int shard_count = session.shard_addresses.size();
  if (shard >= 0 && shard < shard_count && shard != session.shard_index) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("shard_index ", shard, " is no other shard than ", session.shard_index, " in [0, ", shard_count, ")"));
}

}  // namespace

grpc::ServerUnaryReactor* ShardPeerService::Vote(grpc::CallbackServerContext* context, const v1::VoteRequest* request,
                                                 v1::VoteResponse* response) {
  absl::StatusOr<std::shared_ptr<TrainingSession>> session = FindSession(*shard_, request->key());
  if (!session.ok()) return FinishNow(context, session.status());
  absl::StatusOr<Ballot> ballot = ParseBallot(*request);
  if (!ballot.ok()) return FinishNow(context, ballot.status());
  if (absl::Status status = CheckVoteKey(ballot->key); !status.ok()) return FinishNow(context, status);
  if (absl::Status status = CheckPeer((*session)->options(), ballot->shard); !status.ok()) return FinishNow(context, status);
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
  const absl::StatusOr<VoteKey> key = ParseVoteKey(*request);
  if (!key.ok()) return FinishNow(context, key.status());
  if (absl::Status status = CheckVoteKey(*key); !status.ok()) return FinishNow(context, status);
  if (absl::Status status = CheckPeer((*session)->options(), request->shard_index()); !status.ok()) return FinishNow(context, status);
  absl::StatusOr<StepOutcome> outcome = (*session)->GetOutcome(*key);
  if (!outcome.ok()) return FinishNow(context, outcome.status());
  *response->mutable_outcome() = ToProto(*outcome);
  return FinishNow(context, absl::OkStatus());
}

}  // namespace myriad
