#ifndef MYRIAD_PROTO_WIRE_COMING_LABELS_H_
#define MYRIAD_PROTO_WIRE_COMING_LABELS_H_

#include <cstdint>
#include <string>
#include <vector>

#include <google/protobuf/repeated_ptr_field.h>

#include "absl/types/span.h"

namespace myriad {

// The labels of one rank for the steps after the one at hand, the nearest first: what HeadStepRequest and FetchStepRequest announce.
using ComingLabels = std::vector<std::vector<int64_t>>;
using ComingLabelsField = google::protobuf::RepeatedPtrField<std::string>;

// Steps that can be announced, and labels of one of them.
constexpr int kMostComingSteps = 8;
constexpr int64_t kMostComingLabels = int64_t{1} << 16;

// Of more steps than kMostComingSteps the nearest are taken.
void EncodeComingLabels(absl::Span<const std::vector<int64_t>> labels, ComingLabelsField* field);
// They are hints: steps beyond kMostComingSteps are left out, and a step whose bytes are no class ids, or too many, has none.
ComingLabels DecodeComingLabels(const ComingLabelsField& field);

}  // namespace myriad

#endif  // MYRIAD_PROTO_WIRE_COMING_LABELS_H_
