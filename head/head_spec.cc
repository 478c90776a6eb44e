#include "head/head_spec.h"

#include <cmath>
#include <cstdlib>

#include "absl/base/attributes.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace myriad {
namespace {

constexpr int64_t kMaxClassCount = int64_t{1} << 40;
constexpr int kMaxEmbeddingDim = 65536;
constexpr int kPartitionCount = 4096;
constexpr double kMaxScale = 1024.0;
constexpr double kHalfPi = 1.5707963267948966;

std::string Text(const std::string& value) { return absl::StrCat("\"", value, "\""); }
std::string Text(int64_t value) { return absl::StrCat(value); }
std::string Text(int value) { return absl::StrCat(value); }
std::string Text(uint64_t value) { return absl::StrCat(value); }
std::string Text(bool value) { return value ? "true" : "false"; }
// The shortest text that reads back as the same number: two values that differ never look equal.
std::string Text(double value) {
  std::string text = absl::StrFormat("%.15g", value);
  return std::strtod(text.c_str(), nullptr) == value ? text : absl::StrFormat("%.17g", value);
}
std::string Text(DataType value) {
  switch (value) {
    case DataType::kFloat32: return "float32";
    case DataType::kBFloat16: return "bfloat16";
    case DataType::kFloat16: return "float16";
  }
  return "unknown";
}
std::string Text(OptimizerKind value) {
  switch (value) {
    case OptimizerKind::kSgd: return "sgd";
    case OptimizerKind::kAdamW: return "adamw";
    case OptimizerKind::kAdagrad: return "adagrad";
  }
  return "unknown";
}
std::string Text(IdleUpdate value) { return value == IdleUpdate::kExact ? "exact" : "skip"; }
std::string Text(MarginOptions::Kind value) {
  switch (value) {
    case MarginOptions::Kind::kCosFace: return "cosface";
    case MarginOptions::Kind::kArcFace: return "arcface";
    case MarginOptions::Kind::kArcFaceStraightThrough: return "arcface (straight through)";
  }
  return "unknown";
}
std::string Text(SamplerOptions::Kind value) {
  switch (value) {
    case SamplerOptions::Kind::kUniform: return "uniform";
    case SamplerOptions::Kind::kAll: return "all";
    case SamplerOptions::Kind::kAllSample: return "all_sample";
    case SamplerOptions::Kind::kPositivesOnly: return "positives_only";
    case SamplerOptions::Kind::kPool: return "pool";
    case SamplerOptions::Kind::kBlock: return "block";
  }
  return "unknown";
}
std::string Text(Placement value) { return value == Placement::kShard ? "shard" : "worker"; }

template <typename T>
absl::Status OutOfRange(absl::string_view field, const T& value, absl::string_view range) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", Text(value), "; it must be ", range));
}

bool IsNameCharacter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }

absl::Status CheckMargin(const MarginOptions& margin) {
  const bool cosface = margin.kind == MarginOptions::Kind::kCosFace;
  const double limit = cosface ? 2.0 : kHalfPi;
  // Written so that NaN is refused too.
  if (!(margin.margin >= 0.0 && margin.margin <= limit)) {
    return OutOfRange("training.margin.margin", margin.margin, cosface ? "in [0, 2]" : "in [0, pi/2]");
  }
  if (!(margin.scale > 0.0 && margin.scale <= kMaxScale)) return OutOfRange("training.scale", margin.scale, "in (0, 1024]");
  return absl::OkStatus();
}

absl::Status CheckSampler(const SamplerOptions& sampler, const HeadSpec& head) {
  int64_t least = 0;
  switch (sampler.kind) {
    case SamplerOptions::Kind::kAll:
    case SamplerOptions::Kind::kPositivesOnly: return absl::OkStatus();
    case SamplerOptions::Kind::kUniform: break;
    case SamplerOptions::Kind::kAllSample:
    case SamplerOptions::Kind::kPool:
    case SamplerOptions::Kind::kBlock: least = 1; break;
  }
  if (sampler.sample_count < least || sampler.sample_count > head.class_count) {
    return OutOfRange("training.sampler.sample_count", sampler.sample_count,
                      absl::StrCat("in [", least, ", ", head.class_count, "], the head's class_count"));
  }
  if (sampler.kind != SamplerOptions::Kind::kPool) return absl::OkStatus();
  if (sampler.pool_size < sampler.sample_count || sampler.pool_size > head.class_count) {
    return OutOfRange("training.sampler.pool_size", sampler.pool_size,
                      absl::StrCat("in [", sampler.sample_count, ", ", head.class_count, "], from sample_count to the head's class_count"));
  }
  if (sampler.rotated_rows < 1 || sampler.rotated_rows > sampler.pool_size) {
    return OutOfRange("training.sampler.rotated_rows", sampler.rotated_rows,
                      absl::StrCat("in [1, ", sampler.pool_size, "], the pool_size"));
  }
  return absl::OkStatus();
}

// Rows move in float32: what vanishes or overflows there is out of range too.
bool IsFiniteFloat(double value) { return std::isfinite(static_cast<float>(value)); }

absl::Status CheckOptimizer(const OptimizerOptions& optimizer, const HeadSpec& head) {
  const std::string kind = Text(optimizer.kind);
  if (optimizer.kind != head.slots) {
    return absl::InvalidArgumentError(
        absl::StrCat("training.optimizer is ", kind, "; the head's rows keep the slots of ", Text(head.slots)));
  }
  if (optimizer.idle_update == IdleUpdate::kExact && optimizer.kind != OptimizerKind::kSgd) {
    return absl::InvalidArgumentError(
        absl::StrCat("training.idle_update is exact; with ", kind,
                     " a row's idle steps are no linear map of its numbers, so they cannot be made up for later: use skip, or sgd"));
  }
  const auto check = [&kind](absl::string_view field, double value, bool ok, absl::string_view range) {
    return ok ? absl::OkStatus() : OutOfRange(absl::StrCat("training.", kind, ".", field), value, range);
  };
  const auto check_factor = [&check](absl::string_view field, double value) {
    return check(field, value, value >= 0.0 && value < 1.0, "in [0, 1)");
  };
  std::vector<absl::Status> checks;
  switch (optimizer.kind) {
    case OptimizerKind::kSgd: checks.push_back(check_factor("momentum", optimizer.momentum)); break;
    case OptimizerKind::kAdamW:
      checks.push_back(check_factor("beta1", optimizer.beta1));
      checks.push_back(check_factor("beta2", optimizer.beta2));
      ABSL_FALLTHROUGH_INTENDED;
    case OptimizerKind::kAdagrad:
      checks.push_back(check("epsilon", optimizer.epsilon, static_cast<float>(optimizer.epsilon) > 0.0f && IsFiniteFloat(optimizer.epsilon),
                             "> 0 and finite in float32"));
      break;
  }
  checks.push_back(check("weight_decay", optimizer.weight_decay, optimizer.weight_decay >= 0.0 && IsFiniteFloat(optimizer.weight_decay),
                         ">= 0 and finite in float32"));
  checks.push_back(check("rate_scale", optimizer.rate_scale, optimizer.rate_scale > 0.0 && IsFiniteFloat(optimizer.rate_scale),
                         "> 0 and finite in float32"));
  for (const absl::Status& status : checks) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Compares fields one after the other and keeps the first difference.
class Comparison {
 public:
  Comparison(const std::string& a_name, const std::string& b_name) : a_name_(a_name), b_name_(b_name) {}

  template <typename T>
  Comparison& Field(absl::string_view field, const T& a, const T& b) {
    if (status_.ok() && !(a == b)) {
      status_ = absl::FailedPreconditionError(absl::StrCat(field, " is ", Text(a), " at ", a_name_, " and ", Text(b), " at ", b_name_));
    }
    return *this;
  }
  const absl::Status& status() const { return status_; }

 private:
  const std::string& a_name_;
  const std::string& b_name_;
  absl::Status status_;
};

}  // namespace

bool operator==(const HeadSpec& a, const HeadSpec& b) { return CheckSame(a, "a", b, "b").ok(); }

absl::Status Validate(const HeadSpec& head) {
  bool name_ok = !head.name.empty() && head.name.size() <= 64;
  for (char c : head.name) name_ok = name_ok && IsNameCharacter(c);
  if (!name_ok) return OutOfRange("head.name", head.name, "1 to 64 letters, digits, '-' or '_'");
  if (head.class_count < 1 || head.class_count > kMaxClassCount) return OutOfRange("head.class_count", head.class_count, "in [1, 2^40]");
  if (head.embedding_dim < 1 || head.embedding_dim > kMaxEmbeddingDim) {
    return OutOfRange("head.embedding_dim", head.embedding_dim, "in [1, 65536]");
  }
  // Elements reach sqrt(3) times as far.
  if (!(head.initial_deviation > 0.0 && std::isfinite(static_cast<float>(head.initial_deviation * 2.0)))) {
    return OutOfRange("head.initial_deviation", head.initial_deviation, "> 0 and finite in float32");
  }
  if (head.partition_count != kPartitionCount) {
    return OutOfRange("head.partition_count", head.partition_count, "4096, the only value so far");
  }
  return absl::OkStatus();
}

std::vector<SlotRange> SlotRanges(const HeadSpec& head) {
  const int64_t dim = head.embedding_dim;
  switch (head.slots) {
    case OptimizerKind::kSgd: return {{dim, head.slot_dtype}};
    case OptimizerKind::kAdamW: return {{dim, head.slot_dtype}, {dim + 1, DataType::kFloat32}};
    case OptimizerKind::kAdagrad: return {{dim, DataType::kFloat32}};
  }
  return {};
}

int64_t SlotNumbers(const HeadSpec& head) {
  int64_t numbers = 0;
  for (const SlotRange& range : SlotRanges(head)) numbers += range.count;
  return numbers;
}

absl::Status Validate(const TrainingSpec& training, const HeadSpec& head) {
  if (absl::Status status = CheckMargin(training.margin); !status.ok()) return status;
  if (absl::Status status = CheckSampler(training.sampler, head); !status.ok()) return status;
  return CheckOptimizer(training.optimizer, head);
}

absl::Status CheckSame(const HeadSpec& a, const std::string& a_name, const HeadSpec& b, const std::string& b_name) {
  return Comparison(a_name, b_name)
      .Field("head.name", a.name, b.name)
      .Field("head.class_count", a.class_count, b.class_count)
      .Field("head.embedding_dim", a.embedding_dim, b.embedding_dim)
      .Field("head.weight_dtype", a.weight_dtype, b.weight_dtype)
      .Field("head.slot_dtype", a.slot_dtype, b.slot_dtype)
      .Field("head.seed", a.seed, b.seed)
      .Field("head.initial_deviation", a.initial_deviation, b.initial_deviation)
      .Field("head.slots", a.slots, b.slots)
      .Field("head.partition_count", a.partition_count, b.partition_count)
      .status();
}

absl::Status CheckSame(const TrainingSpec& a, const std::string& a_name, const TrainingSpec& b, const std::string& b_name) {
  const std::string optimizer = absl::StrCat("training.", Text(a.optimizer.kind));
  return Comparison(a_name, b_name)
      .Field("training.margin.kind", a.margin.kind, b.margin.kind)
      .Field("training.margin.margin", a.margin.margin, b.margin.margin)
      .Field("training.scale", a.margin.scale, b.margin.scale)
      .Field("training.sampler.kind", a.sampler.kind, b.sampler.kind)
      .Field("training.sampler.sample_count", a.sampler.sample_count, b.sampler.sample_count)
      .Field("training.sampler.pool_size", a.sampler.pool_size, b.sampler.pool_size)
      .Field("training.sampler.rotated_rows", a.sampler.rotated_rows, b.sampler.rotated_rows)
      .Field("training.sampling_seed", a.sampler.seed, b.sampler.seed)
      .Field("training.optimizer", a.optimizer.kind, b.optimizer.kind)
      .Field(absl::StrCat(optimizer, ".momentum"), a.optimizer.momentum, b.optimizer.momentum)
      .Field(absl::StrCat(optimizer, ".weight_decay"), a.optimizer.weight_decay, b.optimizer.weight_decay)
      .Field(absl::StrCat(optimizer, ".decoupled_weight_decay"), a.optimizer.decoupled_weight_decay, b.optimizer.decoupled_weight_decay)
      .Field(absl::StrCat(optimizer, ".rate_scale"), a.optimizer.rate_scale, b.optimizer.rate_scale)
      .Field(absl::StrCat(optimizer, ".beta1"), a.optimizer.beta1, b.optimizer.beta1)
      .Field(absl::StrCat(optimizer, ".beta2"), a.optimizer.beta2, b.optimizer.beta2)
      .Field(absl::StrCat(optimizer, ".epsilon"), a.optimizer.epsilon, b.optimizer.epsilon)
      .Field("training.idle_update", a.optimizer.idle_update, b.optimizer.idle_update)
      .Field("training.placement", a.placement, b.placement)
      .status();
}

}  // namespace myriad
