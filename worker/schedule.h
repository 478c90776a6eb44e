#ifndef MYRIAD_WORKER_SCHEDULE_H_
#define MYRIAD_WORKER_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace myriad {

// The learning rate over a run of T steps. With u = (t - warmup)/(T - warmup) in [0, 1) after warm-up:
//   warm-up     rate (t + 1)/warmup, for t < warmup
//   kPolynomial rate (1 - u)^power
//   kStep       rate factor^(milestones passed), milestones in steps
//   kCosine     rate (1 + cos(pi u))/2
//   kConstant   rate
struct Schedule {
  enum class Decay { kPolynomial, kStep, kCosine, kConstant };
  double learning_rate = 0.1;  // The highest, > 0.
  int64_t warmup_steps = 0;    // >= 0.
  int64_t total_steps = 1;     // T, >= 1.
  Decay decay = Decay::kCosine;
  double power = 2.0;                    // kPolynomial, > 0.
  std::vector<int64_t> milestone_steps;  // kStep, not decreasing.
  double factor = 0.1;                   // kStep, in (0, 1).
};

// INVALID_ARGUMENT naming field, value and range.
absl::Status Validate(const Schedule& schedule);

// The rate of step t, counted from 0 over the run. A pure function. Requires: `schedule` valid. Steps past the end have the last step's
// rate.
double LearningRate(const Schedule& schedule, int64_t step);

}  // namespace myriad

#endif  // MYRIAD_WORKER_SCHEDULE_H_
