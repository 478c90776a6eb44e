#include "client/job_rules.h"

#include <cmath>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include "absl/strings/str_cat.h"
#include "client/backbone_limits.h"
#include "proto/wire/coming_labels.h"

namespace myriad {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
constexpr double kHalfPi = 1.5707963267948966;
constexpr double kTwoTo40 = 1099511627776.0;

constexpr FieldRule Default(const char* path, const char* fallback) { return {path, fallback}; }
constexpr FieldRule Between(const char* path, const char* fallback, double low, double high) { return {path, fallback, low, high}; }
constexpr FieldRule Between(const char* path, const char* fallback, SizeRange range) {
  return Between(path, fallback, range.low, range.high);
}
constexpr FieldRule Above(const char* path, const char* fallback, double low, double high = kInfinity) {
  return {path, fallback, low, high, /*low_included=*/false};
}
constexpr FieldRule HalfOpen(const char* path, const char* fallback, double low, double high) {
  return {path, fallback, low, high, /*low_included=*/true, /*high_included=*/false};
}
constexpr FieldRule Inside(const char* path, const char* fallback, double low, double high) {
  return {path, fallback, low, high, /*low_included=*/false, /*high_included=*/false};
}

// The order matters once: a head's optimizer takes the backbone optimizer's numbers in job_defaults.cc, after all of these.
constexpr FieldRule kRules[] = {
    Between("heads.spec.class_count", nullptr, 1, kTwoTo40),
    Between("heads.spec.embedding_dim", nullptr, kEmbeddingDims),
    Default("heads.spec.weight_dtype", "DATA_TYPE_FLOAT32"),
    Default("heads.spec.slot_dtype", "DATA_TYPE_FLOAT32"),
    Above("heads.spec.initial_deviation", "0.01", 0),
    Default("heads.spec.partition_count", "4096"),
    Between("heads.training.cosface.margin", "0.35", 0, 2),
    Between("heads.training.arcface.margin", "0.5", 0, kHalfPi),
    Default("heads.training.arcface.gradient", "ARC_FACE_GRADIENT_EXACT"),
    Above("heads.training.scale", "32", 0, 1024),
    Between("heads.training.uniform.sample_count", nullptr, 0, kTwoTo40),
    Between("heads.training.all_sample.sample_count", nullptr, 1, kTwoTo40),
    Between("heads.training.pool.sample_count", nullptr, 1, kTwoTo40),
    Between("heads.training.pool.pool_size", nullptr, 1, kTwoTo40),
    Between("heads.training.pool.rotated_rows", nullptr, 1, kTwoTo40),
    Between("heads.training.block.sample_count", nullptr, 1, kTwoTo40),
    HalfOpen("heads.training.sgd.momentum", nullptr, 0, 1),
    Between("heads.training.sgd.weight_decay", nullptr, 0, kInfinity),
    Between("heads.training.sgd.rate_scale", "1", 0, kInfinity),  // 0 stands for 1.
    HalfOpen("heads.training.adamw.beta1", "0.9", 0, 1),
    HalfOpen("heads.training.adamw.beta2", "0.999", 0, 1),
    Between("heads.training.adamw.epsilon", "1e-8", 0, kInfinity),  // 0 stands for 1e-8.
    Between("heads.training.adamw.weight_decay", "0.01", 0, kInfinity),
    Between("heads.training.adamw.rate_scale", "1", 0, kInfinity),     // 0 stands for 1.
    Between("heads.training.adagrad.epsilon", "1e-10", 0, kInfinity),  // 0 stands for 1e-10.
    Between("heads.training.adagrad.weight_decay", nullptr, 0, kInfinity),
    Between("heads.training.adagrad.rate_scale", "1", 0, kInfinity),  // 0 stands for 1.
    Default("heads.training.idle_update", "IDLE_UPDATE_SKIP"),
    Default("heads.training.placement", "PLACEMENT_SHARD"),
    Above("heads.loss_weight", "1", 0),
    Default("datasets.format", "FORMAT_AUTO"),
    Default("datasets.split", "train"),
    Between("datasets.augmentation.flip_probability", nullptr, 0, 1),
    Between("datasets.augmentation.max_shift", nullptr, 0, 0.5),
    Between("datasets.augmentation.max_rotation_degrees", nullptr, 0, 180),
    Between("datasets.augmentation.max_scale_change", nullptr, 0, 0.9),
    Between("datasets.augmentation.max_brightness_change", nullptr, 0, 1),
    Between("datasets.augmentation.max_contrast_change", nullptr, 0, 1),
    Between("datasets.augmentation.erase_probability", nullptr, 0, 1),
    Between("backbone.small_resnet.width", "16", kSmallResNetWidths),
    Between("backbone.iresnet.depth", "50", 18, 100),
    HalfOpen("backbone.iresnet.dropout", nullptr, 0, 1),
    Between("backbone.embedding_dim", nullptr, kEmbeddingDims),
    Between("backbone.image_size", nullptr, kImageSizes),
    Between("backbone.channels", nullptr, 1, 3),
    HalfOpen("backbone_optimizer.momentum", "0.9", 0, 1),
    Between("backbone_optimizer.weight_decay", "5e-4", 0, kInfinity),
    Above("backbone_optimizer.clip_norm", nullptr, 0),
    Above("schedule.learning_rate", "0.1", 0),
    Between("schedule.warmup_steps", nullptr, 0, kTwoTo40),
    Above("schedule.polynomial.power", "2", 0),
    Above("schedule.step.milestone_epochs", nullptr, 0),
    Inside("schedule.step.factor", "0.1", 0, 1),
    Between("training.batch_size", "128", 1, kInt32Max),
    Above("training.epochs", nullptr, 0),
    Between("training.steps", nullptr, 0, kTwoTo40),
    Between("training.accumulation", "1", 1, kInt32Max),
    Default("training.precision", "PRECISION_FLOAT32"),
    Between("training.reader_threads", "1", 1, 1024),
    Between("training.log_every_steps", "20", 1, kInt32Max),
    Between("training.gradient_bucket_mib", "4", 1, 4096),
    Between("training.save_every_steps", "2000", 0, kTwoTo40),
    Between("training.keep_saves", "2", 0, kInt32Max),
    Between("training.look_ahead_steps", "2", 0, kMostComingSteps),
    Default("training.final_rows", "FINAL_ROWS_WEIGHTS"),
    Default("verifications.split", "eval"),
    Above("verifications.every_epochs", "1", 0),
    Inside("verifications.false_accept_rates", nullptr, 0, 1),
    Between("local.shards", "1", 1, 4096),
    Between("local.workers", "1", 1, 65536),
    Between("local.max_rows", nullptr, 0, kTwoTo40),
};

std::string NumberText(double value) {
  if (value == kTwoTo40) return "2^40";
  // StrCat gives six digits of a double: not enough for the largest int32.
  return value == std::floor(value) ? absl::StrCat(static_cast<int64_t>(value)) : absl::StrCat(value);
}

template <typename T>
double Widen(T value) {
  return static_cast<double>(value);
}

}  // namespace

bool FieldRule::has_range() const { return low > -kInfinity || high < kInfinity; }

bool FieldRule::Contains(double value) const {
  // Infinity is in no range: "> 0" means a number that one can compute with.
  if (!std::isfinite(value)) return false;
  return (low_included ? value >= low : value > low) && (high_included ? value <= high : value < high);
}

std::string FieldRule::RangeText() const {
  if (high == kInfinity) return absl::StrCat(low_included ? ">= " : "> ", NumberText(low), " and finite");
  return absl::StrCat("in ", low_included ? "[" : "(", NumberText(low), ", ", NumberText(high), high_included ? "]" : ")");
}

absl::Span<const FieldRule> JobRules() { return kRules; }

absl::optional<double> NumberAt(const FieldPlace& place) {
  const Message& message = *place.parent;
  const FieldDescriptor* field = place.field;
  const Reflection* reflection = message.GetReflection();
  const int i = place.index;
  if (!field->is_repeated() && !reflection->HasField(message, field)) return absl::nullopt;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return Widen(i < 0 ? reflection->GetInt32(message, field) : reflection->GetRepeatedInt32(message, field, i));
    case FieldDescriptor::CPPTYPE_INT64:
      return Widen(i < 0 ? reflection->GetInt64(message, field) : reflection->GetRepeatedInt64(message, field, i));
    case FieldDescriptor::CPPTYPE_UINT64:
      return Widen(i < 0 ? reflection->GetUInt64(message, field) : reflection->GetRepeatedUInt64(message, field, i));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return i < 0 ? reflection->GetDouble(message, field) : reflection->GetRepeatedDouble(message, field, i);
    default: return absl::nullopt;
  }
}

std::string OutOfRangeMessage(const FieldPlace& place, const FieldRule& rule) {
  std::string value;
  google::protobuf::TextFormat::PrintFieldValueToString(*place.parent, place.field, place.index, &value);
  return absl::StrCat(place.path, " is ", value, "; it must be ", rule.RangeText());
}

}  // namespace myriad
