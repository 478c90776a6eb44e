#include "proto/wire/coming_labels.h"

#include <algorithm>
#include <utility>

#include "proto/wire/matrix_codec.h"

namespace myriad {

void EncodeComingLabels(absl::Span<const std::vector<int64_t>> labels, ComingLabelsField* field) {
  for (const std::vector<int64_t>& of_step : labels.subspan(0, kMostComingSteps)) *field->Add() = EncodeArray<int64_t>(of_step);
}

ComingLabels DecodeComingLabels(const ComingLabelsField& field) {
  ComingLabels labels(std::min(field.size(), kMostComingSteps));
  for (size_t step = 0; step < labels.size(); ++step) {
    const std::string& bytes = field.Get(static_cast<int>(step));
    if (static_cast<int64_t>(bytes.size() / sizeof(int64_t)) > kMostComingLabels) continue;
    if (auto decoded = DecodeArray<int64_t>(bytes, "coming_labels"); decoded.ok()) labels[step] = *std::move(decoded);
  }
  return labels;
}

}  // namespace myriad
