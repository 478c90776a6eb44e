#ifndef MYRIAD_SERVER_SERVICES_VOTE_CODEC_H_
#define MYRIAD_SERVER_SERVICES_VOTE_CODEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "myriad/v1/shard_peer.pb.h"
#include "server/step/vote.h"

namespace myriad {

// Messages of ShardPeer <-> value types. Parsing validates what does not depend on the head: INVALID_ARGUMENT names the field.
v1::VoteRequest ToProto(const std::string& head, const Ballot& ballot);
absl::StatusOr<Ballot> ParseBallot(const v1::VoteRequest& message);

v1::GetOutcomeRequest ToProto(const std::string& head, const VoteKey& key, int asker);
absl::StatusOr<VoteKey> ParseVoteKey(const v1::GetOutcomeRequest& message);

v1::StepOutcome ToProto(const StepOutcome& outcome);
absl::StatusOr<StepOutcome> ParseOutcome(const v1::StepOutcome& message);

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_VOTE_CODEC_H_
