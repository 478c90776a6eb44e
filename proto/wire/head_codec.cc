#include "proto/wire/head_codec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "head/pool_rotation.h"
#include "proto/wire/matrix_codec.h"

namespace myriad {
namespace {

absl::Status UnknownValue(const std::string& field, int value, const std::string& known) {
  return absl::InvalidArgumentError(absl::StrCat(field, " ", value, " is not known; use ", known));
}

absl::StatusOr<MarginOptions::Kind> ParseGradient(v1::ArcFaceGradient gradient) {
  switch (gradient) {
    case v1::ARC_FACE_GRADIENT_UNSPECIFIED:
    case v1::ARC_FACE_GRADIENT_EXACT: return MarginOptions::Kind::kArcFace;
    case v1::ARC_FACE_GRADIENT_STRAIGHT_THROUGH: return MarginOptions::Kind::kArcFaceStraightThrough;
    default: return UnknownValue("training.arcface.gradient", gradient, "EXACT or STRAIGHT_THROUGH");
  }
}

absl::StatusOr<IdleUpdate> ParseIdleUpdate(v1::IdleUpdate idle_update) {
  switch (idle_update) {
    case v1::IDLE_UPDATE_UNSPECIFIED:
    case v1::IDLE_UPDATE_SKIP: return IdleUpdate::kSkip;
    case v1::IDLE_UPDATE_EXACT: return IdleUpdate::kExact;
    default: return UnknownValue("training.idle_update", idle_update, "SKIP or EXACT");
  }
}

absl::StatusOr<OptimizerOptions> ParseOptimizer(const v1::TrainingSpec& message) {
  OptimizerOptions optimizer;
  const auto or_default = [](double value, double fallback) { return value == 0 ? fallback : value; };
  switch (message.optimizer_case()) {
    case v1::TrainingSpec::kSgd:
      optimizer.kind = OptimizerKind::kSgd;
      optimizer.momentum = message.sgd().momentum();
      optimizer.weight_decay = message.sgd().weight_decay();
      optimizer.decoupled_weight_decay = message.sgd().decoupled_weight_decay();
      optimizer.rate_scale = or_default(message.sgd().rate_scale(), 1.0);
      return optimizer;
    case v1::TrainingSpec::kAdamw:
      optimizer.kind = OptimizerKind::kAdamW;
      optimizer.beta1 = message.adamw().beta1();
      optimizer.beta2 = message.adamw().beta2();
      optimizer.epsilon = or_default(message.adamw().epsilon(), 1e-8);
      optimizer.weight_decay = message.adamw().weight_decay();
      optimizer.rate_scale = or_default(message.adamw().rate_scale(), 1.0);
      return optimizer;
    case v1::TrainingSpec::kAdagrad:
      optimizer.kind = OptimizerKind::kAdagrad;
      optimizer.epsilon = or_default(message.adagrad().epsilon(), 1e-10);
      optimizer.weight_decay = message.adagrad().weight_decay();
      optimizer.rate_scale = or_default(message.adagrad().rate_scale(), 1.0);
      return optimizer;
    case v1::TrainingSpec::OPTIMIZER_NOT_SET: break;
  }
  return absl::InvalidArgumentError("training.optimizer is not set: use sgd, adamw or adagrad");
}

void SetOptimizer(const OptimizerOptions& optimizer, v1::TrainingSpec* message) {
  switch (optimizer.kind) {
    case OptimizerKind::kSgd:
      message->mutable_sgd()->set_momentum(optimizer.momentum);
      message->mutable_sgd()->set_weight_decay(optimizer.weight_decay);
      message->mutable_sgd()->set_decoupled_weight_decay(optimizer.decoupled_weight_decay);
      message->mutable_sgd()->set_rate_scale(optimizer.rate_scale);
      break;
    case OptimizerKind::kAdamW:
      message->mutable_adamw()->set_beta1(optimizer.beta1);
      message->mutable_adamw()->set_beta2(optimizer.beta2);
      message->mutable_adamw()->set_epsilon(optimizer.epsilon);
      message->mutable_adamw()->set_weight_decay(optimizer.weight_decay);
      message->mutable_adamw()->set_rate_scale(optimizer.rate_scale);
      break;
    case OptimizerKind::kAdagrad:
      message->mutable_adagrad()->set_epsilon(optimizer.epsilon);
      message->mutable_adagrad()->set_weight_decay(optimizer.weight_decay);
      message->mutable_adagrad()->set_rate_scale(optimizer.rate_scale);
      break;
  }
}

absl::StatusOr<Placement> ParsePlacement(v1::Placement placement) {
  switch (placement) {
    case v1::PLACEMENT_UNSPECIFIED:
    case v1::PLACEMENT_SHARD: return Placement::kShard;
    case v1::PLACEMENT_WORKER: return Placement::kWorker;
    default: return UnknownValue("training.placement", placement, "SHARD or WORKER");
  }
}

}  // namespace

absl::StatusOr<HeadSpec> ParseHeadSpec(const v1::HeadSpec& message) {
  HeadSpec head;
  head.name = message.name();
  head.class_count = message.class_count();
  head.embedding_dim = message.embedding_dim();
  absl::StatusOr<DataType> weight_dtype = ParseDataType(message.weight_dtype());
  if (!weight_dtype.ok()) return weight_dtype.status();
  head.weight_dtype = *weight_dtype;
  absl::StatusOr<DataType> slot_dtype = ParseDataType(message.slot_dtype());
  if (!slot_dtype.ok()) return slot_dtype.status();
  head.slot_dtype = *slot_dtype;
  head.seed = message.seed();
  head.initial_deviation = message.initial_deviation() == 0 ? HeadSpec().initial_deviation : message.initial_deviation();
  switch (message.slots_case()) {
    case v1::HeadSpec::kAdamwSlots: head.slots = OptimizerKind::kAdamW; break;
    case v1::HeadSpec::kAdagradSlots: head.slots = OptimizerKind::kAdagrad; break;
    case v1::HeadSpec::kSgdSlots:
    case v1::HeadSpec::SLOTS_NOT_SET: head.slots = OptimizerKind::kSgd; break;
  }
  head.partition_count = message.partition_count() == 0 ? HeadSpec().partition_count : message.partition_count();
  if (absl::Status status = Validate(head); !status.ok()) return status;
  return head;
}

v1::HeadSpec ToProto(const HeadSpec& head) {
  v1::HeadSpec message;
  message.set_name(head.name);
  message.set_class_count(head.class_count);
  message.set_embedding_dim(head.embedding_dim);
  message.set_weight_dtype(ToProto(head.weight_dtype));
  message.set_slot_dtype(ToProto(head.slot_dtype));
  message.set_seed(head.seed);
  message.set_initial_deviation(head.initial_deviation);
  switch (head.slots) {
    case OptimizerKind::kSgd: message.mutable_sgd_slots(); break;
    case OptimizerKind::kAdamW: message.mutable_adamw_slots(); break;
    case OptimizerKind::kAdagrad: message.mutable_adagrad_slots(); break;
  }
  message.set_partition_count(head.partition_count);
  return message;
}

absl::StatusOr<TrainingSpec> ParseTrainingSpec(const v1::TrainingSpec& message, const HeadSpec& head) {
  TrainingSpec training;
  switch (message.margin_case()) {
    case v1::TrainingSpec::kCosface:
      training.margin.kind = MarginOptions::Kind::kCosFace;
      training.margin.margin = message.cosface().margin();
      break;
    case v1::TrainingSpec::kArcface: {
      const absl::StatusOr<MarginOptions::Kind> kind = ParseGradient(message.arcface().gradient());
      if (!kind.ok()) return kind.status();
      training.margin.kind = *kind;
      training.margin.margin = message.arcface().margin();
      break;
    }
    case v1::TrainingSpec::MARGIN_NOT_SET: return absl::InvalidArgumentError("training.margin is not set: use cosface or arcface");
  }
  training.margin.scale = message.scale();
  switch (message.sampler_case()) {
    case v1::TrainingSpec::kUniform:
      training.sampler.kind = SamplerOptions::Kind::kUniform;
      training.sampler.sample_count = message.uniform().sample_count();
      break;
    case v1::TrainingSpec::kAll: training.sampler.kind = SamplerOptions::Kind::kAll; break;
    case v1::TrainingSpec::kAllSample:
      training.sampler.kind = SamplerOptions::Kind::kAllSample;
      training.sampler.sample_count = message.all_sample().sample_count();
      break;
    case v1::TrainingSpec::kPositivesOnly: training.sampler.kind = SamplerOptions::Kind::kPositivesOnly; break;
    case v1::TrainingSpec::kPool: {
      SamplerOptions& pool = training.sampler;
      pool.kind = SamplerOptions::Kind::kPool;
      pool.sample_count = message.pool().sample_count();
      pool.pool_size = message.pool().pool_size() == 0 ? DefaultPoolSize(pool.sample_count, head.class_count) : message.pool().pool_size();
      pool.rotated_rows = message.pool().rotated_rows() == 0 ? DefaultRotatedRows(pool.sample_count) : message.pool().rotated_rows();
      break;
    }
    case v1::TrainingSpec::kBlock:
      training.sampler.kind = SamplerOptions::Kind::kBlock;
      training.sampler.sample_count = message.block().sample_count();
      break;
    case v1::TrainingSpec::SAMPLER_NOT_SET:
      return absl::InvalidArgumentError("training.sampler is not set: use uniform, all, all_sample, positives_only, pool or block");
  }
  training.sampler.seed = message.sampling_seed();
  const absl::StatusOr<OptimizerOptions> optimizer = ParseOptimizer(message);
  if (!optimizer.ok()) return optimizer.status();
  training.optimizer = *optimizer;
  const absl::StatusOr<IdleUpdate> idle_update = ParseIdleUpdate(message.idle_update());
  if (!idle_update.ok()) return idle_update.status();
  training.optimizer.idle_update = *idle_update;
  const absl::StatusOr<Placement> placement = ParsePlacement(message.placement());
  if (!placement.ok()) return placement.status();
  training.placement = *placement;
  if (absl::Status status = Validate(training, head); !status.ok()) return status;
  return training;
}

v1::TrainingSpec ToProto(const TrainingSpec& training) {
  v1::TrainingSpec message;
  switch (training.margin.kind) {
    case MarginOptions::Kind::kCosFace: message.mutable_cosface()->set_margin(training.margin.margin); break;
    case MarginOptions::Kind::kArcFace:
      message.mutable_arcface()->set_margin(training.margin.margin);
      message.mutable_arcface()->set_gradient(v1::ARC_FACE_GRADIENT_EXACT);
      break;
    case MarginOptions::Kind::kArcFaceStraightThrough:
      message.mutable_arcface()->set_margin(training.margin.margin);
      message.mutable_arcface()->set_gradient(v1::ARC_FACE_GRADIENT_STRAIGHT_THROUGH);
      break;
  }
  message.set_scale(training.margin.scale);
  switch (training.sampler.kind) {
    case SamplerOptions::Kind::kUniform: message.mutable_uniform()->set_sample_count(training.sampler.sample_count); break;
    case SamplerOptions::Kind::kAll: message.mutable_all(); break;
    case SamplerOptions::Kind::kAllSample: message.mutable_all_sample()->set_sample_count(training.sampler.sample_count); break;
    case SamplerOptions::Kind::kPositivesOnly: message.mutable_positives_only(); break;
    case SamplerOptions::Kind::kPool:
      message.mutable_pool()->set_sample_count(training.sampler.sample_count);
      message.mutable_pool()->set_pool_size(training.sampler.pool_size);
      message.mutable_pool()->set_rotated_rows(training.sampler.rotated_rows);
      break;
    case SamplerOptions::Kind::kBlock: message.mutable_block()->set_sample_count(training.sampler.sample_count); break;
  }
  message.set_sampling_seed(training.sampler.seed);
  SetOptimizer(training.optimizer, &message);
  message.set_idle_update(training.optimizer.idle_update == IdleUpdate::kExact ? v1::IDLE_UPDATE_EXACT : v1::IDLE_UPDATE_SKIP);
  message.set_placement(training.placement == Placement::kWorker ? v1::PLACEMENT_WORKER : v1::PLACEMENT_SHARD);
  return message;
}

absl::StatusOr<bool> ParseEvaluate(v1::StepMode mode) {
  switch (mode) {
    case v1::STEP_MODE_UNSPECIFIED:
    case v1::STEP_MODE_TRAIN: return false;
    case v1::STEP_MODE_EVALUATE: return true;
    default: return UnknownValue("mode", mode, "TRAIN or EVALUATE");
  }
}

absl::StatusOr<Denominators> ParseDenominators(const v1::Denominators& message, int64_t sample_count) {
  Denominators result;
  absl::StatusOr<std::vector<float>> max_logit = DecodeArray<float>(message.max_logit(), "max_logit");
  absl::StatusOr<std::vector<double>> sum_exp = DecodeArray<double>(message.sum_exp(), "sum_exp");
  absl::StatusOr<std::vector<int32_t>> target_index = DecodeArray<int32_t>(message.target_index(), "target_index");
  absl::StatusOr<std::vector<double>> target_logit = DecodeArray<double>(message.target_logit(), "target_logit");
  absl::StatusOr<std::vector<float>> target_cosine = DecodeArray<float>(message.target_cosine(), "target_cosine");
  for (const absl::Status& status :
       {max_logit.status(), sum_exp.status(), target_index.status(), target_logit.status(), target_cosine.status()}) {
    if (!status.ok()) return status;
  }
  const size_t targets = target_index->size();
  if (max_logit->size() != sample_count || sum_exp->size() != sample_count || target_logit->size() != targets ||
      target_cosine->size() != targets) {
    return absl::InvalidArgumentError(absl::StrCat("denominators: ", max_logit->size(), " maxima, ", sum_exp->size(), " sums, ", targets,
                                                   " targets, ", target_logit->size(), " target logits, ", target_cosine->size(),
                                                   " target cosines for ", sample_count, " samples"));
  }
  int32_t last = -1;
  for (int32_t index : *target_index) {
    if (index <= last || index >= sample_count) {
      return absl::InvalidArgumentError(
          absl::StrCat("denominators: target index ", index, " is not increasing in [0, ", sample_count, ")"));
    }
    last = index;
  }
  result.max_logit = *std::move(max_logit);
  result.sum_exp = *std::move(sum_exp);
  result.target_index = *std::move(target_index);
  result.target_logit = *std::move(target_logit);
  result.target_cosine = *std::move(target_cosine);
  return result;
}

v1::Denominators ToProto(const Denominators& denominators) {
  v1::Denominators message;
  message.set_max_logit(EncodeArray<float>(denominators.max_logit));
  message.set_sum_exp(EncodeArray<double>(denominators.sum_exp));
  message.set_target_index(EncodeArray<int32_t>(denominators.target_index));
  message.set_target_logit(EncodeArray<double>(denominators.target_logit));
  message.set_target_cosine(EncodeArray<float>(denominators.target_cosine));
  return message;
}

absl::StatusOr<MergedDenominators> ParseMerged(const v1::MergedDenominators& message) {
  MergedDenominators merged;
  absl::StatusOr<std::vector<double>> log_z = DecodeArray<double>(message.log_z(), "log_z");
  if (!log_z.ok()) return log_z.status();
  merged.log_z = *std::move(log_z);
  merged.target_present.assign(message.target_present().begin(), message.target_present().end());
  if (merged.target_present.size() != merged.log_z.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("merged denominators: ", merged.target_present.size(), " target flags for ", merged.log_z.size(), " samples"));
  }
  for (size_t i = 0; i < merged.log_z.size(); ++i) {
    // A sample without any row has log 0.
    if (!std::isnan(merged.log_z[i]) && merged.log_z[i] < std::numeric_limits<double>::infinity()) continue;
    return absl::InvalidArgumentError(absl::StrCat("merged denominators: log Z of sample ", i, " is ", merged.log_z[i]));
  }
  merged.loss_sum = message.loss_sum();
  merged.target_cosine_sum = message.target_cosine_sum();
  merged.target_count = message.target_count();
  return merged;
}

v1::MergedDenominators ToProto(const MergedDenominators& merged) {
  v1::MergedDenominators message;
  message.set_log_z(EncodeArray<double>(merged.log_z));
  message.set_target_present(EncodeArray<uint8_t>(merged.target_present));
  message.set_loss_sum(merged.loss_sum);
  message.set_target_cosine_sum(merged.target_cosine_sum);
  message.set_target_count(merged.target_count);
  return message;
}

}  // namespace myriad
