#include "worker/job_options.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace myriad {

using config::v1::DatasetConfig;
using config::v1::ScheduleConfig;
using config::v1::TrainingConfig;

BackboneSpec BackboneSpecOf(const config::v1::BackboneConfig& config) {
  BackboneSpec spec;
  spec.embedding_dim = config.embedding_dim();
  spec.image_size = config.image_size();
  spec.channels = config.channels();
  if (config.has_iresnet()) {
    spec.network = BackboneSpec::Network::kIResNet;
    spec.depth = config.iresnet().depth();
    spec.dropout = config.iresnet().dropout();
  } else {
    spec.network = BackboneSpec::Network::kSmallResNet;
    spec.width = config.small_resnet().width();
  }
  return spec;
}

BackboneSgd::Options SgdOptionsOf(const config::v1::BackboneOptimizerConfig& config) {
  BackboneSgd::Options options;
  options.momentum = config.momentum();
  options.weight_decay = config.weight_decay();
  return options;
}

AugmentationOptions AugmentationOf(const config::v1::AugmentationConfig& config) {
  AugmentationOptions options;
  options.flip_probability = config.flip_probability();
  options.max_shift = config.max_shift();
  options.max_rotation_degrees = config.max_rotation_degrees();
  options.max_scale_change = config.max_scale_change();
  options.max_brightness_change = config.max_brightness_change();
  options.max_contrast_change = config.max_contrast_change();
  options.erase_probability = config.erase_probability();
  return options;
}

DatasetFormat FormatOf(DatasetConfig::Format format) {
  switch (format) {
    case DatasetConfig::FORMAT_DATASET_JSON: return DatasetFormat::kDatasetJson;
    case DatasetConfig::FORMAT_FOLDER: return DatasetFormat::kFolder;
    default: return DatasetFormat::kAuto;
  }
}

absl::StatusOr<Schedule> ScheduleOf(const config::v1::JobConfig& config, int64_t steps_per_epoch) {
  Schedule schedule;
  const ScheduleConfig& from = config.schedule();
  schedule.learning_rate = from.learning_rate();
  schedule.warmup_steps = from.warmup_steps();
  schedule.total_steps = config.training().steps() > 0 ? config.training().steps()
                                                       : std::llround(config.training().epochs() * static_cast<double>(steps_per_epoch));
  if (schedule.total_steps < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("training.epochs ", config.training().epochs(), " is less than one step; an epoch has ", steps_per_epoch));
  }
  if (schedule.warmup_steps > schedule.total_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("schedule.warmup_steps is ", schedule.warmup_steps, "; the whole run has ", schedule.total_steps, " steps"));
  }
  switch (from.decay_case()) {
    case ScheduleConfig::kPolynomial:
      schedule.decay = Schedule::Decay::kPolynomial;
      schedule.power = from.polynomial().power();
      break;
    case ScheduleConfig::kStep:
      schedule.decay = Schedule::Decay::kStep;
      schedule.factor = from.step().factor();
      for (double epoch : from.step().milestone_epochs()) {
        schedule.milestone_steps.push_back(std::llround(epoch * static_cast<double>(steps_per_epoch)));
      }
      break;
    case ScheduleConfig::kConstant: schedule.decay = Schedule::Decay::kConstant; break;
    default: schedule.decay = Schedule::Decay::kCosine;
  }
  absl::Status status = Validate(schedule);
  if (!status.ok()) return status;
  return schedule;
}

TrainingOptions TrainingOptionsOf(const config::v1::JobConfig& config, const Schedule& schedule) {
  TrainingOptions options;
  options.schedule = schedule;
  options.seed = config.seed();
  options.step.accumulation = std::max(1, config.training().accumulation());
  options.step.bfloat16 = config.training().precision() == TrainingConfig::PRECISION_BFLOAT16;
  if (config.backbone_optimizer().has_clip_norm()) options.step.clip_norm = config.backbone_optimizer().clip_norm();
  options.log_every_steps = config.training().log_every_steps();
  options.save_every_steps = config.training().save_every_steps();
  options.look_ahead_steps = config.training().look_ahead_steps();
  options.embed.bfloat16 = options.step.bfloat16;
  options.embed.reader_threads = config.training().reader_threads();
  return options;
}

}  // namespace myriad
