#ifndef MYRIAD_PROTO_WIRE_HEAD_CODEC_H_
#define MYRIAD_PROTO_WIRE_HEAD_CODEC_H_

#include <vector>

#include "absl/status/statusor.h"
#include "head/head_spec.h"
#include "head/partial_denominator.h"
#include "myriad/v1/center_shard.pb.h"
#include "myriad/v1/head.pb.h"

namespace myriad {

// Messages <-> value types. Parsing fills in the defaults that the .proto names and validates: INVALID_ARGUMENT names field, value and
// range. An enum value that this version does not know is refused, never taken for a default.
absl::StatusOr<HeadSpec> ParseHeadSpec(const v1::HeadSpec& message);
v1::HeadSpec ToProto(const HeadSpec& head);

absl::StatusOr<TrainingSpec> ParseTrainingSpec(const v1::TrainingSpec& message, const HeadSpec& head);
v1::TrainingSpec ToProto(const TrainingSpec& training);

// Whether a step evaluates: W does not move.
absl::StatusOr<bool> ParseEvaluate(v1::StepMode mode);

absl::StatusOr<Denominators> ParseDenominators(const v1::Denominators& message, int64_t sample_count);
v1::Denominators ToProto(const Denominators& denominators);

absl::StatusOr<MergedDenominators> ParseMerged(const v1::MergedDenominators& message);
v1::MergedDenominators ToProto(const MergedDenominators& merged);

}  // namespace myriad

#endif  // MYRIAD_PROTO_WIRE_HEAD_CODEC_H_
