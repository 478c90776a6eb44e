#include "client/query.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "client/head_source.h"
#include "client/identity_catalogue.h"
#include "client/run_folder.h"
#include "client/run_shards.h"
#include "head/type_names.h"

namespace myriad {
namespace {

using Json = nlohmann::ordered_json;

// What a person can read, and an answer that fits in memory.
constexpr size_t kMostCosines = 32;
constexpr int64_t kMostNumbers = 1 << 24;

absl::string_view Name(MarginOptions::Kind kind) {
  switch (kind) {
    case MarginOptions::Kind::kCosFace: return "cosface";
    case MarginOptions::Kind::kArcFace: return "arcface";
    case MarginOptions::Kind::kArcFaceStraightThrough: return "arcface_straight_through";
  }
  return "";
}

absl::string_view Name(SamplerOptions::Kind kind) {
  switch (kind) {
    case SamplerOptions::Kind::kUniform: return "uniform";
    case SamplerOptions::Kind::kAll: return "all";
    case SamplerOptions::Kind::kAllSample: return "all_sample";
    case SamplerOptions::Kind::kPositivesOnly: return "positives_only";
    case SamplerOptions::Kind::kPool: return "pool";
    case SamplerOptions::Kind::kBlock: return "block";
  }
  return "";
}

// A run that goes on has its heads on its servers, one that has ended in its folder.
absl::StatusOr<std::unique_ptr<HeadSource>> OpenSource(const QueryOptions& options) {
  if (options.run_dir.empty() == options.shards.empty()) {
    return absl::InvalidArgumentError("say where to read: either --run DIR or --shards host:port,...");
  }
  if (options.run_dir.empty()) return OpenShardSource(options.shards, options.timeout);
  const absl::StatusOr<std::vector<std::string>> live = RunShards::Find(options.run_dir);
  if (!live.ok()) return live.status();
  return live->empty() ? OpenRunFolderSource(options.run_dir) : OpenShardSource(*live, options.timeout);
}

Json ToJson(const OptimizerOptions& optimizer) {
  Json json;
  switch (optimizer.kind) {
    case OptimizerKind::kSgd:
      json["momentum"] = optimizer.momentum;
      json["decoupled_weight_decay"] = optimizer.decoupled_weight_decay;
      break;
    case OptimizerKind::kAdamW:
      json["beta1"] = optimizer.beta1;
      json["beta2"] = optimizer.beta2;
      json["epsilon"] = optimizer.epsilon;
      break;
    case OptimizerKind::kAdagrad: json["epsilon"] = optimizer.epsilon; break;
  }
  json["weight_decay"] = optimizer.weight_decay;
  json["rate_scale"] = optimizer.rate_scale;
  return json;
}

std::string Words(const OptimizerOptions& optimizer) {
  switch (optimizer.kind) {
    case OptimizerKind::kSgd:
      return absl::StrCat("momentum ", optimizer.momentum, ", weight decay ", optimizer.weight_decay,
                          optimizer.decoupled_weight_decay ? " (decoupled)" : "");
    case OptimizerKind::kAdamW:
      return absl::StrCat("beta1 ", optimizer.beta1, ", beta2 ", optimizer.beta2, ", weight decay ", optimizer.weight_decay);
    case OptimizerKind::kAdagrad: return absl::StrCat("epsilon ", optimizer.epsilon, ", weight decay ", optimizer.weight_decay);
  }
  return "";
}

Json ToJson(const TrainingSpec& training) {
  Json json;
  json["margin"] = {{"kind", Name(training.margin.kind)}, {"margin", training.margin.margin}};
  json["scale"] = training.margin.scale;
  json["sampler"] = {{"kind", Name(training.sampler.kind)}};
  if (training.sampler.kind != SamplerOptions::Kind::kAll && training.sampler.kind != SamplerOptions::Kind::kPositivesOnly) {
    json["sampler"]["sample_count"] = training.sampler.sample_count;
  }
  if (training.sampler.kind == SamplerOptions::Kind::kPool) {
    json["sampler"]["pool_size"] = training.sampler.pool_size;
    json["sampler"]["rotated_rows"] = training.sampler.rotated_rows;
  }
  json["sampling_seed"] = training.sampler.seed;
  json[std::string(NameOf(training.optimizer.kind))] = ToJson(training.optimizer);
  json["idle_update"] = std::string(NameOf(training.optimizer.idle_update));
  json["placement"] = training.placement == Placement::kWorker ? "worker" : "shard";
  return json;
}

Json ToJson(const HeadSummary& head) {
  Json json;
  json["name"] = head.spec.name;
  json["class_count"] = head.spec.class_count;
  json["embedding_dim"] = head.spec.embedding_dim;
  json["row_count"] = head.row_count;
  json["committed_steps"] = head.committed_steps;
  json["incarnation"] = head.incarnation;
  json["weight_dtype"] = NameOf(head.spec.weight_dtype);
  json["slot_dtype"] = NameOf(head.spec.slot_dtype);
  json["seed"] = head.spec.seed;
  json["initial_deviation"] = head.spec.initial_deviation;
  json["shard_count"] = head.shard_count;
  if (!head.shards.empty()) {
    json["shards"] = Json::array();
    for (const HeadSummary::Shard& shard : head.shards) {
      json["shards"].push_back({{"index", shard.index}, {"address", shard.address}, {"row_count", shard.row_count}});
    }
  }
  if (head.training.has_value()) json["training"] = ToJson(*head.training);
  return json;
}

void PrintHead(const HeadSummary& head, std::ostream& out) {
  const auto line = [&out](absl::string_view name, const std::string& value) { out << absl::StrFormat("  %-16s %s\n", name, value); };
  out << "head " << head.spec.name << "\n";
  line("classes", absl::StrCat(head.spec.class_count));
  line("embedding dim", absl::StrCat(head.spec.embedding_dim));
  line("rows that exist", absl::StrCat(head.row_count, " (the others are virtual)"));
  line("steps", absl::StrCat(head.committed_steps, " committed, incarnation ", head.incarnation));
  line("stored as", absl::StrCat("weights ", NameOf(head.spec.weight_dtype), ", slots ", NameOf(head.spec.slot_dtype)));
  line("fresh rows", absl::StrCat("deviation ", head.spec.initial_deviation, ", seed ", head.spec.seed));
  if (head.training.has_value()) {
    const TrainingSpec& training = *head.training;
    line("margin", absl::StrCat(Name(training.margin.kind), " ", training.margin.margin, ", scale ", training.margin.scale));
    std::string sampler(Name(training.sampler.kind));
    if (training.sampler.sample_count > 0) absl::StrAppend(&sampler, " of ", training.sampler.sample_count);
    if (training.sampler.kind == SamplerOptions::Kind::kPool) {
      absl::StrAppend(&sampler, " out of ", training.sampler.pool_size, ", ", training.sampler.rotated_rows, " replaced a step");
    }
    line("sampler", absl::StrCat(sampler, ", seed ", training.sampler.seed));
    line("optimizer",
         absl::StrCat(NameOf(training.optimizer.kind), " ", Words(training.optimizer), ", rate x ", training.optimizer.rate_scale,
                      training.optimizer.idle_update == IdleUpdate::kExact ? ", idle rows exactly" : ""));
    line("compute at", training.placement == Placement::kWorker ? "worker" : "shard");
  } else {
    line("training", "none yet");
  }
  if (!head.shards.empty() && head.shards.size() != head.shard_count) {
    line("shards", absl::StrCat("only ", head.shards.size(), " of ", head.shard_count, " were asked"));
  } else {
    line("shards", absl::StrCat(head.shard_count));
  }
  for (const HeadSummary::Shard& shard : head.shards) {
    line(absl::StrCat("  shard ", shard.index), absl::StrCat(shard.address, ", ", shard.row_count, " rows"));
  }
}

// The names of the head's classes: from --catalogue, else from the run folder; none if there is none.
absl::StatusOr<absl::optional<IdentityCatalogue>> OpenCatalogue(const QueryOptions& options, const std::string& head) {
  std::string path = options.catalogue_path;
  if (path.empty() && !options.run_dir.empty()) {
    const absl::StatusOr<RunFolder> folder = RunFolder::Open(options.run_dir);
    if (!folder.ok()) return folder.status();
    std::error_code error;
    if (std::filesystem::exists(folder->identities_path(head), error)) path = folder->identities_path(head);
  }
  if (path.empty()) return absl::optional<IdentityCatalogue>();
  absl::StatusOr<IdentityCatalogue> catalogue = IdentityCatalogue::Load(path);
  if (!catalogue.ok()) return catalogue.status();
  return absl::optional<IdentityCatalogue>(*std::move(catalogue));
}

absl::StatusOr<std::vector<int64_t>> SelectClasses(const CenterSelection& selection, const HeadSpec& head,
                                                   const absl::optional<IdentityCatalogue>& catalogue) {
  const int64_t most_centers = kMostNumbers / head.embedding_dim;
  std::vector<int64_t> classes;
  for (absl::string_view part : absl::StrSplit(selection.classes, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int64_t first = 0;
    int64_t last = 0;
    const bool is_range = part.find('-') != absl::string_view::npos;
    if (!absl::SimpleAtoi(ends.first, &first) || !absl::SimpleAtoi(is_range ? ends.second : ends.first, &last) || first > last) {
      return absl::InvalidArgumentError(absl::StrCat("'", part, "' is no class id and no range of them; write for example 3,7,100-109"));
    }
    for (int64_t id : {first, last}) {
      if (id < 0 || id >= head.class_count) {
        return absl::InvalidArgumentError(absl::StrCat("class ", id, " is not in [0, ", head.class_count, ") of head ", head.name));
      }
    }
    if (last - first >= most_centers - static_cast<int64_t>(classes.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "': more than ", most_centers, " centers of ", head.embedding_dim, " numbers at once"));
    }
    for (int64_t id = first; id <= last; ++id) classes.push_back(id);
  }
  for (const std::string& name : selection.identities) {
    if (!catalogue.has_value()) {
      return absl::NotFoundError(absl::StrCat("no catalogue knows identity '", name, "'; give one with --catalogue identities.tsv"));
    }
    const absl::StatusOr<int64_t> id = catalogue->IdOf(name);
    if (!id.ok()) return id.status();
    if (*id >= head.class_count) {
      return absl::InvalidArgumentError(
          absl::StrCat("identity '", name, "' is class ", *id, "; head ", head.name, " has ", head.class_count, ": another catalogue"));
    }
    classes.push_back(*id);
  }
  if (classes.empty()) return absl::InvalidArgumentError("say which centers: --classes 3,7,100-109 or --identities NAME,NAME");
  return classes;
}

double Dot(const Center& a, const Center& b) {
  double sum = 0;
  for (size_t d = 0; d < a.values.size(); ++d) sum += double{a.values[d]} * b.values[d];
  return sum;
}

double Norm(const Center& center) { return std::sqrt(Dot(center, center)); }

// 0 where a center has no direction.
double Cosine(const Center& a, const Center& b) {
  const double norms = Norm(a) * Norm(b);
  return norms > 0 ? Dot(a, b) / norms : 0.0;
}

// JSON knows only UTF-8; a name of other bytes shows replacement characters.
std::string Dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace); }

std::string NameOf(const absl::optional<IdentityCatalogue>& catalogue, int64_t class_id) {
  return catalogue.has_value() && class_id < catalogue->size() ? std::string(catalogue->NameOf(class_id)) : "";
}

void PrintCentersJson(const HeadSummary& head, const std::vector<Center>& centers, const absl::optional<IdentityCatalogue>& catalogue,
                      std::ostream& out) {
  Json json;
  json["head"] = head.spec.name;
  json["committed_steps"] = head.committed_steps;
  json["centers"] = Json::array();
  for (const Center& center : centers) {
    Json entry;
    entry["class_id"] = center.class_id;
    if (const std::string name = NameOf(catalogue, center.class_id); !name.empty()) entry["identity"] = name;
    entry["exists"] = center.exists;
    entry["norm"] = Norm(center);
    entry["values"] = center.values;
    json["centers"].push_back(std::move(entry));
  }
  if (centers.size() >= 2 && centers.size() <= kMostCosines) {
    for (const Center& a : centers) {
      Json row = Json::array();
      for (const Center& b : centers) row.push_back(Cosine(a, b));
      json["cosines"].push_back(std::move(row));
    }
  }
  out << Dump(json) << "\n";
}

void PrintCentersText(const HeadSummary& head, const std::vector<Center>& centers, const absl::optional<IdentityCatalogue>& catalogue,
                      int shown_values, std::ostream& out) {
  out << "head " << head.spec.name << ": " << head.spec.class_count << " classes x " << head.spec.embedding_dim << ", step "
      << head.committed_steps << "\n";
  for (const Center& center : centers) {
    out << "class " << center.class_id;
    if (const std::string name = NameOf(catalogue, center.class_id); !name.empty()) out << "  " << name;
    out << absl::StrFormat("  norm %.4f%s ", Norm(center), center.exists ? "" : "  virtual");
    const size_t shown = shown_values > 0 ? std::min(center.values.size(), static_cast<size_t>(shown_values)) : center.values.size();
    for (size_t d = 0; d < shown; ++d) out << absl::StrFormat(" %.6g", center.values[d]);
    if (shown < center.values.size()) out << " ... (" << center.values.size() - shown << " more)";
    out << "\n";
  }
  if (centers.size() < 2 || centers.size() > kMostCosines) return;
  out << absl::StrFormat("%-10s", "cosine");
  for (const Center& center : centers) out << absl::StrFormat(" %10d", center.class_id);
  out << "\n";
  for (const Center& a : centers) {
    out << absl::StrFormat("%10d", a.class_id);
    for (const Center& b : centers) out << absl::StrFormat(" %10.4f", Cosine(a, b));
    out << "\n";
  }
}

}  // namespace

absl::Status QueryHeads(const QueryOptions& options, std::ostream& out) {
  absl::StatusOr<std::unique_ptr<HeadSource>> source = OpenSource(options);
  if (!source.ok()) return source.status();
  absl::StatusOr<std::vector<HeadSummary>> heads = (*source)->Heads();
  if (!heads.ok()) return heads.status();
  std::vector<HeadSummary> chosen = *heads;
  if (!options.head.empty()) {
    absl::StatusOr<HeadSummary> head = ChooseHead(*heads, options.head);
    if (!head.ok()) return head.status();
    chosen = {*std::move(head)};
  }
  if (!options.json) {
    for (const HeadSummary& head : chosen) PrintHead(head, out);
    return absl::OkStatus();
  }
  Json json;
  json["heads"] = Json::array();
  for (const HeadSummary& head : chosen) json["heads"].push_back(ToJson(head));
  out << Dump(json) << "\n";
  return absl::OkStatus();
}

absl::Status QueryCenters(const QueryOptions& options, const CenterSelection& selection, std::ostream& out) {
  absl::StatusOr<std::unique_ptr<HeadSource>> source = OpenSource(options);
  if (!source.ok()) return source.status();
  const absl::StatusOr<std::vector<HeadSummary>> heads = (*source)->Heads();
  if (!heads.ok()) return heads.status();
  const absl::StatusOr<HeadSummary> found = ChooseHead(*heads, options.head);
  if (!found.ok()) return found.status();
  const absl::StatusOr<absl::optional<IdentityCatalogue>> catalogue = OpenCatalogue(options, found->spec.name);
  if (!catalogue.ok()) return catalogue.status();
  const absl::StatusOr<std::vector<int64_t>> classes = SelectClasses(selection, found->spec, *catalogue);
  if (!classes.ok()) return classes.status();
  const absl::StatusOr<std::vector<Center>> centers = (*source)->FetchCenters(*found, *classes);
  if (!centers.ok()) return centers.status();
  if (options.json) {
    PrintCentersJson(*found, *centers, *catalogue, out);
  } else {
    PrintCentersText(*found, *centers, *catalogue, selection.shown_values, out);
  }
  return absl::OkStatus();
}

}  // namespace myriad
