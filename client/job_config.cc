#include "client/job_config.h"

#include <google/protobuf/text_format.h>

#include "absl/strings/str_cat.h"
#include "client/field_path.h"
#include "client/file_util.h"
#include "client/job_rules.h"
#include "client/text_proto.h"

namespace myriad {
namespace {

using google::protobuf::TextFormat;

// The first number that was written and is out of range, a 0 that would pass for "left out" included.
absl::Status CheckWritten(const std::string& source, const TextFormat::ParseInfoTree& tree, config::v1::JobConfig* config) {
  absl::Status first;
  for (const FieldRule& rule : JobRules()) {
    if (!rule.has_range()) continue;
    VisitFields(config, rule.path, /*create=*/false, &tree, [&](const FieldPlace& place) {
      if (!first.ok() || place.tree == nullptr) return;
      // The elements of a [list] have one place together, that of the first.
      TextFormat::ParseLocation location = place.tree->GetLocation(place.field, place.index);
      if (location.line < 0 && place.index > 0) location = place.tree->GetLocation(place.field, 0);
      if (location.line < 0 || rule.Contains(NumberAt(place).value_or(0))) return;
      first = absl::InvalidArgumentError(
          absl::StrCat(source, ":", location.line + 1, ":", location.column + 1, ": ", OutOfRangeMessage(place, rule)));
    });
  }
  return first;
}

}  // namespace

absl::StatusOr<config::v1::JobConfig> ParseJobConfig(absl::string_view text, const std::string& source) {
  TextFormat::ParseInfoTree tree;
  config::v1::JobConfig config;
  if (absl::Status status = ParseText(text, source, &config, &tree); !status.ok()) return status;
  if (absl::Status status = CheckWritten(source, tree, &config); !status.ok()) return status;
  return config;
}

absl::StatusOr<config::v1::JobConfig> LoadJobConfig(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  return ParseJobConfig(*text, path);
}

absl::Status SetField(absl::string_view assignment, config::v1::JobConfig* config) {
  const size_t equals = assignment.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat("--set ", assignment, ": not PATH=VALUE, as in training.batch_size=256"));
  }
  const std::string prefix = absl::StrCat("--set ", assignment, ": ");
  config::v1::JobConfig changed = *config;
  const absl::StatusOr<std::string> path = AssignField(assignment.substr(0, equals), assignment.substr(equals + 1), &changed);
  if (!path.ok()) return absl::InvalidArgumentError(absl::StrCat(prefix, path.status().message()));
  absl::Status range;
  for (const FieldRule& rule : JobRules()) {
    if (!rule.has_range()) continue;
    VisitFields(&changed, rule.path, /*create=*/false, nullptr, [&](const FieldPlace& place) {
      if (place.path != *path || rule.Contains(NumberAt(place).value_or(0))) return;
      range = absl::InvalidArgumentError(absl::StrCat(prefix, OutOfRangeMessage(place, rule)));
    });
  }
  if (range.ok()) *config = std::move(changed);
  return range;
}

std::string PrintJobConfig(const config::v1::JobConfig& config) {
  TextFormat::Printer printer;
  std::string text;
  printer.PrintToString(config, &text);
  return text;
}

}  // namespace myriad
