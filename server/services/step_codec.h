#ifndef MYRIAD_SERVER_SERVICES_STEP_CODEC_H_
#define MYRIAD_SERVER_SERVICES_STEP_CODEC_H_

#include "absl/status/statusor.h"
#include "head/head_spec.h"
#include "myriad/v1/center_shard.pb.h"
#include "server/head_shard.h"
#include "server/step/step_work.h"
#include "server/training_session.h"

namespace myriad {

// Requests of a step -> StepCall, without `done`. Bulk numbers are viewed, not copied: the request must live until the call is answered. A
// request whose content is of no use gives a call with `invalid` set, so that the step is refused for all ranks at once; the message names
// the rank.
StepCall ParseHeadStep(const v1::HeadStepRequest& request, bool evaluate, const HeadSpec& head, const SessionOptions& session);
StepCall ParseFetchStep(const v1::FetchStepRequest& request, const SessionOptions& session);
// Only for the reducer of the step.
StepCall ParseMerge(const v1::MergeDenominatorsRequest& request, const SessionOptions& session);
StepCall ParseApply(const v1::ApplyGradientsRequest& request, const HeadSpec& head, const SessionOptions& session);

// Replies -> responses. May throw std::bad_alloc.
void FillResponse(const HeadStepReply& reply, DataType dtype, v1::HeadStepResponse* response);
void FillResponse(const FetchReply& reply, v1::FetchStepResponse* response);
void FillResponse(const MergeReply& reply, v1::MergeDenominatorsResponse* response);
void FillResponse(const ApplyReply& reply, v1::ApplyGradientsResponse* response);

// OpenHead's fields beside the HeadSpec. Errors: INVALID_ARGUMENT naming field, value and range.
absl::StatusOr<SessionOptions> ParseSession(const v1::OpenHeadRequest& request, const HeadSpec& head);
v1::HeadInfo ToProto(const HeadShard::Info& info);

}  // namespace myriad

#endif  // MYRIAD_SERVER_SERVICES_STEP_CODEC_H_
