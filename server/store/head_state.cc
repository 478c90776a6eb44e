#include "server/store/head_state.h"

#include "absl/strings/str_cat.h"
#include "myriad/storage/v1/head_state.pb.h"
#include "proto/wire/head_codec.h"

namespace myriad {
namespace {

constexpr int kVersion = 1;

}  // namespace

std::string SerializeHeadState(const HeadState& state) {
  storage::v1::HeadState message;
  message.set_version(kVersion);
  *message.mutable_head() = ToProto(state.head);
  message.set_shard_index(state.shard_index);
  message.set_shard_count(state.shard_count);
  message.set_incarnation(state.incarnation);
  message.set_committed_steps(state.committed_steps);
  if (state.training) *message.mutable_training() = ToProto(*state.training);
  message.set_clean(state.clean);
  if (state.clean) message.set_presence(state.presence);
  return message.SerializeAsString();
}

absl::StatusOr<HeadState> ParseHeadState(absl::string_view bytes) {
  storage::v1::HeadState message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::DataLossError("the head's state is damaged");
  if (message.version() != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the head's state has version ", message.version(), "; this program knows version ", kVersion));
  }
  HeadState state;
  absl::StatusOr<HeadSpec> head = ParseHeadSpec(message.head());
  if (!head.ok()) return head.status();
  state.head = *std::move(head);
  state.shard_index = message.shard_index();
  state.shard_count = message.shard_count();
  if (state.shard_count < 1 || state.shard_index < 0 || state.shard_index >= state.shard_count) {
    return absl::DataLossError(absl::StrCat("the head's state says shard ", state.shard_index, " of ", state.shard_count));
  }
  state.incarnation = message.incarnation();
  state.committed_steps = message.committed_steps();
  if (message.has_training()) {
    absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(message.training(), state.head);
    if (!training.ok()) return training.status();
    state.training = *std::move(training);
  }
  state.clean = message.clean();
  state.presence = message.presence();
  return state;
}

}  // namespace myriad
