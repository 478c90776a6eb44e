#ifndef MYRIAD_WORKER_JOB_OPTIONS_H_
#define MYRIAD_WORKER_JOB_OPTIONS_H_

#include "absl/status/statusor.h"
#include "myriad/config/v1/job.pb.h"
#include "worker/backbone/backbone.h"
#include "worker/data/augmentation.h"
#include "worker/data/open_dataset.h"
#include "worker/run_training.h"
#include "worker/schedule.h"
#include "worker/sgd.h"

namespace myriad {

// A resolved job configuration (client/job_config.h) as the worker's option structs.

BackboneSpec BackboneSpecOf(const config::v1::BackboneConfig& config);
BackboneSgd::Options SgdOptionsOf(const config::v1::BackboneOptimizerConfig& config);
AugmentationOptions AugmentationOf(const config::v1::AugmentationConfig& config);
DatasetFormat FormatOf(config::v1::DatasetConfig::Format format);

// Errors: INVALID_ARGUMENT naming field and value: more warm-up than steps, a run of no steps.
absl::StatusOr<Schedule> ScheduleOf(const config::v1::JobConfig& config, int64_t steps_per_epoch);

// Of TrainingOptions what does not depend on the machine.
TrainingOptions TrainingOptionsOf(const config::v1::JobConfig& config, const Schedule& schedule);

}  // namespace myriad

#endif  // MYRIAD_WORKER_JOB_OPTIONS_H_
