#include "worker/schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace myriad {

absl::Status Validate(const Schedule& schedule) {
  const auto wrong = [](const char* field, double value, const char* range) {
    return absl::InvalidArgumentError(absl::StrCat("schedule ", field, " is ", value, "; it must be ", range));
  };
  if (!(schedule.learning_rate > 0.0) || !std::isfinite(schedule.learning_rate)) {
    return wrong("learning_rate", schedule.learning_rate, "> 0 and finite");
  }
  if (schedule.warmup_steps < 0) return wrong("warmup_steps", schedule.warmup_steps, ">= 0");
  if (schedule.total_steps < 1) return wrong("total steps", schedule.total_steps, ">= 1");
  if (!(schedule.power > 0.0)) return wrong("polynomial.power", schedule.power, "> 0");
  if (!(schedule.factor > 0.0 && schedule.factor < 1.0)) return wrong("step.factor", schedule.factor, "in (0, 1)");
  if (!std::is_sorted(schedule.milestone_steps.begin(), schedule.milestone_steps.end())) {
    return absl::InvalidArgumentError("schedule step.milestone_epochs must increase");
  }
  return absl::OkStatus();
}

double LearningRate(const Schedule& schedule, int64_t step) {
  step = std::min(step, schedule.total_steps - 1);
  if (step < schedule.warmup_steps)
    return schedule.learning_rate * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
  const double progress =
      static_cast<double>(step - schedule.warmup_steps) / static_cast<double>(schedule.total_steps - schedule.warmup_steps);
  switch (schedule.decay) {
    case Schedule::Decay::kPolynomial: return schedule.learning_rate * std::pow(1.0 - progress, schedule.power);
    case Schedule::Decay::kStep: {
      const auto passed = std::upper_bound(schedule.milestone_steps.begin(), schedule.milestone_steps.end(), step);
      return schedule.learning_rate * std::pow(schedule.factor, static_cast<double>(passed - schedule.milestone_steps.begin()));
    }
    case Schedule::Decay::kCosine: return schedule.learning_rate * 0.5 * (1.0 + std::cos(M_PI * progress));
    case Schedule::Decay::kConstant: break;
  }
  return schedule.learning_rate;
}

}  // namespace myriad
