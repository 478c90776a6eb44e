#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/backbone_limits.h"
#include "client/field_path.h"
#include "client/job_config.h"
#include "client/job_rules.h"
#include "head/pool_rotation.h"
#include "proto/wire/head_codec.h"

namespace myriad {
namespace {

using config::v1::BackboneConfig;
using config::v1::HeadConfig;
using config::v1::JobConfig;

// Up to this many classes the default is exact softmax; beyond it, as many draws.
constexpr int64_t kDefaultSampleCount = 16384;
constexpr int64_t kLargestClassCount = int64_t{1} << 40;

absl::Status Invalid(const std::string& message) { return absl::InvalidArgumentError(message); }

void FillConstants(JobConfig* config) {
  for (const FieldRule& rule : JobRules()) {
    if (rule.fallback == nullptr) continue;
    VisitFields(config, rule.path, /*create=*/true, nullptr, [&](const FieldPlace& place) {
      const bool present = place.field->is_repeated() || place.parent->GetReflection()->HasField(*place.parent, place.field);
      // A fallback that does not parse would be a wrong table; tests fill in every one.
      if (!present) AssignField(place.field->name(), rule.fallback, place.parent).IgnoreError();
    });
  }
}

void FillHead(const JobConfig& config, HeadConfig* head) {
  v1::HeadSpec* spec = head->mutable_spec();
  if (spec->embedding_dim() == 0) spec->set_embedding_dim(config.backbone().embedding_dim());

  v1::TrainingSpec* training = head->mutable_training();
  if (spec->slots_case() == v1::HeadSpec::SLOTS_NOT_SET) {
    switch (training->optimizer_case()) {
      case v1::TrainingSpec::kAdamw: spec->mutable_adamw_slots(); break;
      case v1::TrainingSpec::kAdagrad: spec->mutable_adagrad_slots(); break;
      case v1::TrainingSpec::kSgd:
      case v1::TrainingSpec::OPTIMIZER_NOT_SET: spec->mutable_sgd_slots(); break;
    }
  }
  if (training->has_sgd()) {
    v1::SgdOptimizer* sgd = training->mutable_sgd();
    if (!sgd->has_momentum()) sgd->set_momentum(config.backbone_optimizer().momentum());
    if (!sgd->has_weight_decay()) sgd->set_weight_decay(config.backbone_optimizer().weight_decay());
  }
  if (training->sampling_seed() == 0) training->set_sampling_seed(config.seed());
}

void FillSampler(int64_t class_count, v1::TrainingSpec* training) {
  if (class_count <= 0) return;
  if (training->sampler_case() == v1::TrainingSpec::SAMPLER_NOT_SET) {
    if (class_count <= kDefaultSampleCount) {
      training->mutable_all();
    } else {
      training->mutable_uniform();
    }
  }
  const int64_t sample_count = std::min(class_count, kDefaultSampleCount);
  if (training->has_uniform() && !training->uniform().has_sample_count()) training->mutable_uniform()->set_sample_count(sample_count);
  if (training->has_block() && training->block().sample_count() == 0) training->mutable_block()->set_sample_count(sample_count);
  if (training->has_pool()) {
    v1::PoolSampler* pool = training->mutable_pool();
    if (pool->sample_count() == 0) pool->set_sample_count(sample_count);
    if (pool->pool_size() == 0) pool->set_pool_size(DefaultPoolSize(pool->sample_count(), class_count));
    if (pool->rotated_rows() == 0) pool->set_rotated_rows(DefaultRotatedRows(pool->sample_count()));
  }
}

std::string LastPart(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

void FillAll(JobConfig* config) {
  // Members of oneofs come first, so that the table's defaults find them.
  for (HeadConfig& head : *config->mutable_heads()) {
    if (head.training().margin_case() == v1::TrainingSpec::MARGIN_NOT_SET) head.mutable_training()->mutable_cosface();
    if (head.training().optimizer_case() == v1::TrainingSpec::OPTIMIZER_NOT_SET) head.mutable_training()->mutable_sgd();
  }
  if (config->schedule().decay_case() == config::v1::ScheduleConfig::DECAY_NOT_SET) config->mutable_schedule()->mutable_cosine();
  FillConstants(config);

  BackboneConfig* backbone = config->mutable_backbone();
  if (backbone->embedding_dim() == 0) backbone->set_embedding_dim(backbone->has_iresnet() ? 512 : 128);
  for (HeadConfig& head : *config->mutable_heads()) {
    FillHead(*config, &head);
    FillSampler(head.spec().class_count(), head.mutable_training());
  }
  const std::string first_head = config->heads_size() > 0 ? config->heads(0).spec().name() : "";
  for (auto& dataset : *config->mutable_datasets()) {
    if (dataset.head().empty()) dataset.set_head(first_head);
  }
  if (config->training().steps() == 0 && config->training().epochs() == 0) config->mutable_training()->set_epochs(8);
  for (auto& verification : *config->mutable_verifications()) {
    if (verification.name().empty()) verification.set_name(LastPart(verification.path()));
    if (verification.false_accept_rates_size() == 0) {
      verification.add_false_accept_rates(1e-2);
      verification.add_false_accept_rates(1e-3);
    }
  }
  if (config->run_dir().empty()) config->set_run_dir(absl::StrCat("runs/", first_head));
}

absl::Status CheckRanges(JobConfig* config) {
  absl::Status first;
  for (const FieldRule& rule : JobRules()) {
    if (!rule.has_range()) continue;
    VisitFields(config, rule.path, /*create=*/false, nullptr, [&](const FieldPlace& place) {
      const absl::optional<double> value = NumberAt(place);
      if (first.ok() && value.has_value() && !rule.Contains(*value)) first = Invalid(OutOfRangeMessage(place, rule));
    });
    if (!first.ok()) return first;
  }
  if (const std::string unknown = FindUnknownEnum(*config); !unknown.empty()) return Invalid(unknown);
  return absl::OkStatus();
}

// The rules that the shards apply too, in one place: head/head_spec.h. What data will tell is stood in for by what fits everything.
absl::Status CheckHead(const JobConfig& config, int index) {
  const HeadConfig& head = config.heads(index);
  const std::string path = absl::StrCat("heads[", index, "]");
  v1::HeadSpec spec = head.spec();
  if (spec.class_count() == 0) spec.set_class_count(kLargestClassCount);
  const auto at_path = [&](const absl::Status& status) {
    absl::string_view message = status.message();
    if (absl::ConsumePrefix(&message, "head.")) return absl::Status(status.code(), absl::StrCat(path, ".spec.", message));
    if (absl::StartsWith(message, "training.")) return absl::Status(status.code(), absl::StrCat(path, ".", message));
    return absl::Status(status.code(), absl::StrCat(path, ": ", message));
  };
  const absl::StatusOr<HeadSpec> parsed = ParseHeadSpec(spec);
  if (!parsed.ok()) return at_path(parsed.status());
  v1::TrainingSpec training = head.training();
  FillSampler(spec.class_count(), &training);
  if (const auto checked = ParseTrainingSpec(training, *parsed); !checked.ok()) return at_path(checked.status());
  if (spec.embedding_dim() != config.backbone().embedding_dim()) {
    return Invalid(absl::StrCat(path, ".spec.embedding_dim is ", spec.embedding_dim(), "; backbone.embedding_dim is ",
                                config.backbone().embedding_dim(), ": they must be equal"));
  }
  return absl::OkStatus();
}

absl::Status CheckHeadsAndDatasets(const JobConfig& config) {
  if (config.heads_size() == 0) return Invalid("heads is empty; a job trains at least one: heads { spec { name: \"...\" } }");
  std::set<std::string> names;
  for (int i = 0; i < config.heads_size(); ++i) {
    if (absl::Status status = CheckHead(config, i); !status.ok()) return status;
    const std::string& name = config.heads(i).spec().name();
    if (!names.insert(name).second) return Invalid(absl::StrCat("heads[", i, "].spec.name is ", name, ", the name of another head"));
  }
  if (config.datasets_size() == 0) return Invalid("datasets is empty; a job needs at least one: datasets { path: \"...\" }");
  std::set<std::string> fed;
  for (int i = 0; i < config.datasets_size(); ++i) {
    const auto& dataset = config.datasets(i);
    if (dataset.path().empty()) return Invalid(absl::StrCat("datasets[", i, "].path is empty; it must name a folder"));
    if (names.count(dataset.head()) == 0) {
      return Invalid(absl::StrCat("datasets[", i, "].head is ", dataset.head(), "; the heads are ", absl::StrJoin(names, ", ")));
    }
    fed.insert(dataset.head());
  }
  for (const std::string& name : names) {
    if (fed.count(name) == 0) return Invalid(absl::StrCat("head ", name, " has no data set; set datasets[..].head"));
  }
  return absl::OkStatus();
}

absl::Status CheckBackbone(const BackboneConfig& backbone) {
  if (backbone.network_case() == BackboneConfig::NETWORK_NOT_SET) {
    return Invalid("backbone has no network; choose one: backbone { small_resnet {} } or backbone { iresnet { depth: 50 } }");
  }
  if (backbone.has_iresnet()) {
    const int depth = backbone.iresnet().depth();
    if (depth != 18 && depth != 34 && depth != 50 && depth != 100) {
      return Invalid(absl::StrCat("backbone.iresnet.depth is ", depth, "; it must be 18, 34, 50 or 100"));
    }
  }
  if (backbone.channels() == 2) return Invalid("backbone.channels is 2; it must be 1 or 3");
  return absl::OkStatus();
}

// "2GiB", "512MiB", "1000000".
bool IsByteCount(absl::string_view text) {
  for (const absl::string_view unit : {"KiB", "MiB", "GiB", "TiB"}) {
    if (absl::ConsumeSuffix(&text, unit)) break;
  }
  int64_t count = 0;
  return absl::SimpleAtoi(text, &count) && count > 0;
}

absl::Status CheckRest(const JobConfig& config) {
  if (const std::string& memory = config.local().memory(); !memory.empty() && !IsByteCount(memory)) {
    return Invalid(absl::StrCat("local.memory is ", memory, "; it must be a number of bytes, or of KiB, MiB, GiB or TiB: 2GiB"));
  }
  const auto& training = config.training();
  const int64_t parts = int64_t{config.local().workers()} * training.accumulation();
  if (training.batch_size() < parts) {
    return Invalid(absl::StrCat("training.batch_size is ", training.batch_size(), "; it must be >= ", parts, ": local.workers ",
                                config.local().workers(), " x training.accumulation ", training.accumulation()));
  }
  for (int i = 0; training.accumulation() > 1 && i < config.heads_size(); ++i) {
    if (config.heads(i).training().placement() != v1::PLACEMENT_WORKER) continue;
    return Invalid(absl::StrCat("training.accumulation is ", training.accumulation(), "; it must be 1 where logits are computed at the ",
                                "workers: heads[", i, "].training.placement is PLACEMENT_WORKER"));
  }
  if (training.steps() > 0 && config.schedule().warmup_steps() > training.steps()) {
    return Invalid(absl::StrCat("schedule.warmup_steps is ", config.schedule().warmup_steps(), "; the whole run has training.steps ",
                                training.steps()));
  }
  double last = 0;
  for (double epoch : config.schedule().step().milestone_epochs()) {
    if (epoch <= last) return Invalid(absl::StrCat("schedule.step.milestone_epochs has ", epoch, " after ", last, "; they must increase"));
    last = epoch;
  }
  std::set<std::string> names;
  for (int i = 0; i < config.verifications_size(); ++i) {
    const auto& verification = config.verifications(i);
    if (verification.path().empty()) return Invalid(absl::StrCat("verifications[", i, "].path is empty; it must name a data set"));
    if (!names.insert(verification.name()).second) {
      return Invalid(absl::StrCat("verifications[", i, "].name is ", verification.name(), ", the name of another verification"));
    }
  }
  return absl::OkStatus();
}

absl::Status Validate(JobConfig* config) {
  if (absl::Status status = CheckRanges(config); !status.ok()) return status;
  if (absl::Status status = CheckBackbone(config->backbone()); !status.ok()) return status;
  if (absl::Status status = CheckHeadsAndDatasets(*config); !status.ok()) return status;
  return CheckRest(*config);
}

}  // namespace

absl::Status FillDefaults(JobConfig* config) {
  FillAll(config);
  return Validate(config);
}

absl::Status ResolveWithData(const DataFacts& facts, JobConfig* config) {
  BackboneConfig* backbone = config->mutable_backbone();
  if (backbone->image_size() == 0 && facts.image_size != 0) {
    if (facts.image_size < kImageSizes.low || facts.image_size > kImageSizes.high) {
      return Invalid(absl::StrCat("the images of the first data set have ", facts.image_size, " pixels; choose backbone.image_size in [",
                                  kImageSizes.low, ", ", kImageSizes.high, "], to which they are scaled"));
    }
    backbone->set_image_size(facts.image_size);
  }
  if (backbone->channels() == 0) backbone->set_channels(facts.channels);
  for (int i = 0; i < config->heads_size(); ++i) {
    HeadConfig* head = config->mutable_heads(i);
    v1::HeadSpec* spec = head->mutable_spec();
    const auto found = facts.class_counts.find(spec->name());
    const int64_t identities = found == facts.class_counts.end() ? 0 : found->second;
    if (spec->class_count() == 0) spec->set_class_count(identities);
    if (spec->class_count() < identities) {
      return Invalid(
          absl::StrCat("heads[", i, "].spec.class_count is ", spec->class_count(), "; its data sets have ", identities, " identities"));
    }
    if (spec->class_count() == 0) return Invalid(absl::StrCat("head ", spec->name(), " has no class: its data sets are empty"));
    FillSampler(spec->class_count(), head->mutable_training());
  }
  if (backbone->image_size() == 0) return Invalid("backbone.image_size is not set and the first data set does not tell it");
  if (backbone->channels() == 0) return Invalid("backbone.channels is not set and the first data set does not tell it");
  return Validate(config);
}

}  // namespace myriad
