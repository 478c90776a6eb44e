#ifndef MYRIAD_CLIENT_JOB_RULES_H_
#define MYRIAD_CLIENT_JOB_RULES_H_

#include <limits>
#include <string>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/field_path.h"

namespace myriad {

// What the comments of job.proto (and head.proto, where a job reaches into it) promise of single fields, as a table. Rules between fields
// are code in job_defaults.cc.
struct FieldRule {
  const char* path;                // Repeated fields stand for all their elements.
  const char* fallback = nullptr;  // The default as text format has it; null: none, or not a constant.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_included = true;
  bool high_included = true;

  bool has_range() const;
  bool Contains(double value) const;  // False for NaN.
  std::string RangeText() const;      // "in (0, 1]", "> 0".
};

absl::Span<const FieldRule> JobRules();

// The number at a place; nullopt for a field without presence that is 0, which means that it was left out.
absl::optional<double> NumberAt(const FieldPlace& place);

// "PATH is VALUE; it must be RANGE".
std::string OutOfRangeMessage(const FieldPlace& place, const FieldRule& rule);

}  // namespace myriad

#endif  // MYRIAD_CLIENT_JOB_RULES_H_
