#include "proto/wire/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "myriad/v1/center_shard.pb.h"
#include "proto/wire/answered.h"

namespace myriad {
namespace {

constexpr char kStepAbortedUrl[] = "type.googleapis.com/myriad.v1.StepAborted";

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const absl::optional<absl::Cord> abort = status.GetPayload(kStepAbortedUrl);
  const std::string detail = abort.has_value() ? std::string(*abort) : absl::IsUnavailable(status) ? kAnsweredDetail : "";
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()), detail);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (status.error_code() == grpc::StatusCode::ABORTED && !status.error_details().empty()) {
    result.SetPayload(kStepAbortedUrl, absl::Cord(status.error_details()));
  }
  return result;
}

absl::Status StepAbortedError(const std::string& message, const StepAbort& abort) {
  v1::StepAborted detail;
  detail.set_next_attempt(abort.next_attempt);
  for (int32_t rank : abort.missing_ranks) detail.add_missing_ranks(rank);
  absl::Status result = absl::AbortedError(message);
  result.SetPayload(kStepAbortedUrl, absl::Cord(detail.SerializeAsString()));
  return result;
}

bool GetStepAbort(const absl::Status& status, StepAbort* abort) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kStepAbortedUrl);
  v1::StepAborted detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return false;
  abort->next_attempt = detail.next_attempt();
  abort->missing_ranks.assign(detail.missing_ranks().begin(), detail.missing_ranks().end());
  return true;
}

absl::Status Annotate(const absl::Status& status, const std::string& context) {
  if (status.ok()) return status;
  absl::Status result(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { result.SetPayload(url, payload); });
  return result;
}

}  // namespace myriad
