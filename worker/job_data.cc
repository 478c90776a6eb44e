#include "worker/job_data.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/wire/status.h"
#include "worker/data/open_dataset.h"
#include "worker/job_options.h"

namespace myriad {
namespace {

absl::StatusOr<int> HeadIndex(const config::v1::JobConfig& config, const config::v1::DatasetConfig& dataset) {
  if (dataset.head().empty()) return 0;
  for (int h = 0; h < config.heads_size(); ++h) {
    if (config.heads(h).spec().name() == dataset.head()) return h;
  }
  return absl::InvalidArgumentError(absl::StrCat("data set ", dataset.path(), " names head \"", dataset.head(), "\", which is not there"));
}

// Class ids of a data set's labels; names that are new are appended.
absl::StatusOr<std::vector<int64_t>> Resolve(const Dataset& dataset, IdentityCatalogue* catalogue) {
  std::vector<int64_t> class_ids;
  class_ids.reserve(dataset.identities().size());
  const bool fresh = catalogue->size() == 0;
  for (const std::string& name : dataset.identities()) {
    absl::StatusOr<int64_t> id = fresh ? catalogue->Append(name) : catalogue->IdOf(name);
    if (absl::IsNotFound(id.status())) id = catalogue->Append(name);
    if (!id.ok()) return id.status();
    class_ids.push_back(*id);
  }
  return class_ids;
}

}  // namespace

absl::StatusOr<JobData> OpenJobData(const config::v1::JobConfig& config, std::vector<IdentityCatalogue> catalogues) {
  JobData data;
  data.catalogues = std::move(catalogues);
  OpenDatasetOptions options;
  options.image_size = config.backbone().image_size();
  options.channels = config.backbone().channels();
  for (const config::v1::DatasetConfig& entry : config.datasets()) {
    absl::StatusOr<int> head = HeadIndex(config, entry);
    if (!head.ok()) return head.status();
    absl::StatusOr<std::unique_ptr<Dataset>> dataset = OpenDataset(entry.path(), entry.split(), FormatOf(entry.format()), options);
    if (!dataset.ok()) return dataset.status();
    options.image_size = (*dataset)->image_size();
    options.channels = (*dataset)->channels();
    absl::StatusOr<std::vector<int64_t>> class_ids = Resolve(**dataset, &data.catalogues[*head]);
    if (!class_ids.ok()) return Annotate(class_ids.status(), absl::StrCat("data set ", entry.path()));
    data.datasets.push_back(*std::move(dataset));
    data.head_of_dataset.push_back(*head);
    data.class_ids.push_back(*std::move(class_ids));
  }
  data.facts.image_size = options.image_size;
  data.facts.channels = options.channels;
  for (int h = 0; h < config.heads_size(); ++h) data.facts.class_counts[config.heads(h).spec().name()] = data.catalogues[h].size();
  return data;
}

absl::StatusOr<std::unique_ptr<BatchReader>> MakeBatchReader(const config::v1::JobConfig& config, const JobData& data, int rank,
                                                             int rank_count, int64_t first_step) {
  std::vector<BatchSource> sources;
  for (size_t i = 0; i < data.datasets.size(); ++i) {
    BatchSource source;
    source.dataset = data.datasets[i].get();
    source.augmentation = AugmentationOf(config.datasets(static_cast<int>(i)).augmentation());
    source.class_ids = data.class_ids[i];
    source.skip_unreadable = config.datasets(static_cast<int>(i)).skip_unreadable();
    sources.push_back(std::move(source));
  }
  BatchReaderOptions options;
  options.batch_size = config.training().batch_size();
  options.rank = rank;
  options.world_size = rank_count;
  options.seed = config.seed();
  options.threads = config.training().reader_threads();
  options.first_step = first_step;
  return BatchReader::Create(std::move(sources), options);
}

absl::StatusOr<std::vector<std::unique_ptr<VerificationSet>>> OpenVerifications(const config::v1::JobConfig& config) {
  std::vector<std::unique_ptr<VerificationSet>> sets;
  OpenDatasetOptions options;
  options.image_size = config.backbone().image_size();
  options.channels = config.backbone().channels();
  for (const config::v1::VerificationConfig& entry : config.verifications()) {
    auto set = std::make_unique<VerificationSet>();
    set->name = entry.name();
    absl::StatusOr<std::unique_ptr<Dataset>> dataset = OpenDataset(entry.path(), entry.split(), DatasetFormat::kDatasetJson, options);
    if (!dataset.ok()) return dataset.status();
    absl::StatusOr<std::vector<VerificationPair>> pairs = OpenPairs(entry.path(), entry.split());
    if (!pairs.ok()) return pairs.status();
    set->dataset = *std::move(dataset);
    set->pairs = *std::move(pairs);
    set->false_accept_rates.assign(entry.false_accept_rates().begin(), entry.false_accept_rates().end());
    sets.push_back(std::move(set));
  }
  return sets;
}

}  // namespace myriad
