#include "worker/train_job.h"

#include <memory>
#include <utility>

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/head_client.h"
#include "client/job_config.h"
#include "client/run_folder.h"
#include "client/run_saves.h"
#include "myriad/storage/v1/save_manifest.pb.h"
#include "proto/wire/status.h"
#include "worker/backbone/backbone.h"
#include "worker/backbone/backbone_file.h"
#include "worker/device.h"
#include "worker/job_catalogues.h"
#include "worker/job_data.h"
#include "worker/job_heads.h"
#include "worker/job_options.h"
#include "worker/job_saves.h"
#include "worker/network_save.h"
#include "worker/raised.h"
#include "worker/run_saver.h"
#include "worker/run_training.h"
#include "worker/save_run.h"
#include "worker/torch_errors.h"

namespace myriad {
namespace {

using storage::v1::SaveManifest;

std::vector<int64_t> SizesOf(const std::vector<IdentityCatalogue>& catalogues) {
  std::vector<int64_t> sizes;
  for (const IdentityCatalogue& catalogue : catalogues) sizes.push_back(catalogue.size());
  return sizes;
}

// The backbone on its device, with rank 0's weights on all ranks (running statistics too): those of the file `weights`, or random ones
// where that is "".
absl::StatusOr<std::unique_ptr<Backbone>> OpenBackbone(const config::v1::JobConfig& config, const std::string& weights, at::Device device,
                                                       Collectives* collectives) {
  absl::StatusOr<std::unique_ptr<Backbone>> backbone = MakeBackbone(BackboneSpecOf(config.backbone()), config.seed());
  if (!backbone.ok()) return backbone.status();
  absl::Status status;
  if (collectives->rank() == 0 && !weights.empty()) {
    status = Annotate(LoadBackbone(weights, backbone->get()), "backbone.initial_weights");
    if (!status.ok()) return status;
  }
  status = (*backbone)->MoveTo(device);
  if (!status.ok()) return status;
  std::vector<at::Tensor> state;
  for (const NamedTensor& entry : (*backbone)->State()) state.push_back(entry.tensor.detach());
  status = collectives->Broadcast(std::move(state));
  if (!status.ok()) return status;
  return backbone;
}

absl::Status SaveRun(const config::v1::JobConfig& config, const JobData& data, const OpenHeads& open, const TrainJobOptions& options,
                     int64_t steps, const Backbone& backbone, const RunFolder& folder) {
  absl::Status status = SaveBackbone(backbone, {{"steps", absl::StrCat(steps)}}, folder.backbone_path());
  for (int h = 0; status.ok() && h < config.heads_size(); ++h) {
    SavedHead head;
    head.config = &config.heads(h);
    head.catalogue = &data.catalogues[h];
    head.client = open.clients[h].get();
    head.incarnation = open.incarnations[h];
    head.committed_steps = open.heads[h].first_step + steps;
    head.shard_count = static_cast<int>(options.shard_addresses.size());
    status = SaveHead(head, config.training().final_rows(), folder);
  }
  return status;
}

// "training on 20000 images of 2000 identities: 1248 steps of 128 images, 2 workers, backbone of 0.46 M parameters"
std::string StartLine(const config::v1::JobConfig& config, const JobData& data, const Backbone& backbone, const Schedule& schedule,
                      const Collectives& collectives) {
  int64_t identities = 0;
  for (const IdentityCatalogue& catalogue : data.catalogues) identities += catalogue.size();
  int64_t parameters = 0;
  for (const NamedTensor& parameter : backbone.Parameters()) parameters += parameter.tensor.numel();
  return absl::StrFormat("training on %d images of %d identities: %d steps of %d images, %d worker%s, backbone of %.2f M parameters",
                         ImageCount(data), identities, schedule.total_steps, config.training().batch_size(), collectives.rank_count(),
                         collectives.rank_count() == 1 ? "" : "s", static_cast<double>(parameters) * 1e-6);
}

// Everything between meeting the other ranks and leaving them.
// `saves_required`: the job asks for saves, it does not just get them by default.
absl::Status TrainTogether(config::v1::JobConfig config, bool saves_required, at::Device device, const TrainJobOptions& options,
                           Trace* trace, Collectives* collectives) {
  const bool first = collectives->rank() == 0;
  const int shard_count = static_cast<int>(options.shard_addresses.size());
  absl::StatusOr<RunFolder> folder = RunFolder::Join(options.run_dir);
  if (!folder.ok()) return folder.status();
  const std::vector<std::string> catalogue_paths = CataloguePaths(config, options.store, *folder);
  absl::StatusOr<std::vector<IdentityCatalogue>> known = LoadCatalogues(config, catalogue_paths, options.resume, device, collectives);
  if (!known.ok()) return known.status();
  const HeadCheck check_names = [asked = config, &catalogue_paths, known_names = SizesOf(*known)](int h, const HeadOnShards& found) {
    return CheckKnownNames(asked.heads(h), found, known_names[h], catalogue_paths[h]);
  };
  absl::StatusOr<JobData> data = OpenJobData(config, *std::move(known));
  if (!data.ok()) return data.status();
  absl::Status status = ResolveWithData(data->facts, &config);
  if (!status.ok()) return status;
  const RunSaves saves(folder->saves_folder());
  absl::StatusOr<SaveManifest> from = SaveManifest();
  if (options.resume) {
    const auto starting = MakeAllHeadSaves(config, options.shard_addresses, kShardStartTimeout);
    if (!starting.ok()) return starting.status();
    from = ShareSave(saves, SaverHeads(config, *data, *starting, shard_count), ImageCount(*data), options.print, collectives);
    if (!from.ok()) return from.status();
  }
  absl::StatusOr<std::vector<std::unique_ptr<HeadSaves>>> head_saves =
      MakeAllHeadSaves(config, options.shard_addresses, HeadClient::Options().shard_wait);
  if (!head_saves.ok()) return head_saves.status();
  std::vector<SaverHead> saver_heads = SaverHeads(config, *data, *head_saves, shard_count);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader =
      MakeBatchReader(config, *data, collectives->rank(), collectives->rank_count(), from->step());
  if (!reader.ok()) return reader.status();
  absl::StatusOr<Schedule> schedule = ScheduleOf(config, (*reader)->steps_per_epoch());
  if (!schedule.ok()) return schedule.status();
  std::vector<std::unique_ptr<VerificationSet>> verifications;
  if (first) {
    absl::StatusOr<std::vector<std::unique_ptr<VerificationSet>>> opened = OpenVerifications(config);
    if (!opened.ok()) return opened.status();
    verifications = *std::move(opened);
  }
  if (first) {
    status = options.resume ? absl::OkStatus() : folder->CheckUnused();
    if (status.ok()) status = folder->WriteConfig(config);
    if (!status.ok()) return status;
  }

  absl::StatusOr<OpenHeads> open =
      OpenAllHeads(config, options.shard_addresses, options.accept_mixed_steps, *from, check_names, collectives);
  if (!open.ok()) return open.status();
  // The heads are this run's now: no other process writes to its folder, or gives names to these classes.
  if (first) {
    status = folder->RemoveTemporaries();
    if (status.ok()) status = SaveCatalogues(data->catalogues, catalogue_paths);
    if (!status.ok()) return status;
  }
  const std::string initial_weights = GoesOn(*from) ? "" : config.backbone().initial_weights();
  absl::StatusOr<std::unique_ptr<Backbone>> backbone = OpenBackbone(config, initial_weights, device, collectives);
  if (!backbone.ok()) return backbone.status();
  std::vector<at::Tensor> parameters;
  for (const NamedTensor& entry : (*backbone)->Parameters()) parameters.push_back(entry.tensor);
  absl::StatusOr<BackboneSgd> optimizer = BackboneSgd::Create(SgdOptionsOf(config.backbone_optimizer()), parameters);
  if (!optimizer.ok()) return optimizer.status();
  absl::StatusOr<std::unique_ptr<GradientReducer>> reducer =
      collectives->MakeGradientReducer(parameters, int64_t{config.training().gradient_bucket_mib()} << 20, trace);
  if (!reducer.ok()) return reducer.status();

  TrainingParts parts;
  parts.step.backbone = backbone->get();
  parts.step.parameters = parameters;
  parts.step.reducer = reducer->get();
  parts.step.optimizer = &*optimizer;
  parts.step.collectives = collectives;
  parts.step.heads = open->heads;
  parts.step.trace = trace;
  parts.reader = reader->get();
  parts.head_of_source = data->head_of_dataset;
  for (int v = 0; v < config.verifications_size(); ++v) {
    parts.verifications.push_back({first ? verifications[v].get() : nullptr, config.verifications(v).every_epochs()});
  }
  const NetworkParts network{backbone->get(), &*optimizer, collectives};
  if (GoesOn(*from)) {
    status = LoadNetwork(network, saves.PathOf(RunSaves::Name(from->step())), from->rank_count());
    if (!status.ok()) return status;
  }
  const absl::StatusOr<bool> will_save = WillSave(config.training(), saves_required, *head_saves, options.print, collectives);
  if (!will_save.ok()) return will_save.status();
  RunSaver::Parts saver_parts;
  saver_parts.network = network;
  saver_parts.saves = saves;
  for (size_t h = 0; h < saver_heads.size(); ++h) {
    saver_heads[h].incarnation = open->incarnations[h];
    saver_heads[h].first_step = open->heads[h].first_step;
  }
  saver_parts.heads = std::move(saver_heads);
  saver_parts.image_count = ImageCount(*data);
  saver_parts.keep_saves = config.training().keep_saves();
  RunSaver saver(std::move(saver_parts));
  if (*will_save) parts.save = [&saver](const RunPosition& position) { return saver.Save(position); };
  if (first && GoesOn(*from)) {
    status = saver.DropAfter(from->step());
    if (!status.ok()) return status;
  }
  std::unique_ptr<MetricsLog> metrics;
  if (first) {
    absl::StatusOr<MetricsLog> opened = GoesOn(*from) ? MetricsLog::OpenBehind(folder->metrics_path(), from->position().metrics_bytes())
                                                      : MetricsLog::Open(folder->metrics_path());
    if (!opened.ok()) return opened.status();
    metrics = std::make_unique<MetricsLog>(*std::move(opened));
    parts.metrics = metrics.get();
    parts.print = options.print;
  }
  parts.stop = options.stop;
  parts.at_leisure = options.at_leisure;
  TrainingOptions training = TrainingOptionsOf(config, *schedule);
  training.step.device = device;
  training.embed.device = device;
  training.embed.compute_threads = options.verification_threads;

  if (GoesOn(*from)) training.start = PositionOf(*from);
  if (first) {
    options.print(StartLine(config, *data, **backbone, *schedule, *collectives));
    if (GoesOn(*from))
      options.print(absl::StrCat("resumed after step ", from->step(), " from ", saves.PathOf(RunSaves::Name(from->step()))));
  }
  absl::StatusOr<TrainingResult> result = RunTraining(parts, training);
  if (!result.ok()) return result.status();
  if (result->stopped) return absl::CancelledError(absl::StrCat("interrupted after step ", result->steps));
  if (!first) return absl::OkStatus();
  const Raised at_leisure(options.at_leisure);
  status = SaveRun(config, *data, *open, options, result->steps, **backbone, *folder);
  if (!status.ok()) return status;
  if (result->skipped > 0) {
    options.print(absl::StrCat("skipped ", result->skipped, " images that cannot be read (in ", result->steps, " steps, all workers)"));
  }
  options.print(absl::StrCat("run folder ", folder->path()));
  if (result->first_verification) options.print(absl::StrFormat("verification accuracy %.4f", *result->first_verification));
  return absl::OkStatus();
}

absl::Status WriteTrace(const Trace& trace, const TrainJobOptions& options) {
  // A run that came to nothing leaves no folder behind.
  if (trace.spans().empty()) return absl::OkStatus();
  const absl::StatusOr<RunFolder> folder = RunFolder::Join(options.run_dir);
  if (!folder.ok()) return folder.status();
  return trace.WriteChromeJson(options.rank.rank, folder->trace_path(options.rank.rank));
}

}  // namespace

absl::Status RunTrainJob(const TrainJobOptions& options) {
  absl::StatusOr<config::v1::JobConfig> config = LoadJobConfig(options.config_path);
  if (!config.ok()) return config.status();
  const bool saves_required = config->training().save_every_steps() > 0;
  absl::Status status = FillDefaults(&*config);
  if (!status.ok()) return status;
  if (options.shard_addresses.empty()) return absl::InvalidArgumentError("--shards names no shard");
  absl::StatusOr<at::Device> device = ChooseDevice(options.device, options.rank.local_rank);
  if (!device.ok()) return device.status();
  status = GuardTorch("setting up LibTorch", [&] {
    at::set_num_threads(options.threads);
    at::globalContext().setDeterministicCuDNN(true);
  });
  if (!status.ok()) return status;

  Collectives::Options collectives_options;
  collectives_options.rank = options.rank;
  collectives_options.device = *device;
  collectives_options.on_peer_lost = options.on_peer_lost;
  absl::StatusOr<std::unique_ptr<Collectives>> collectives = Collectives::Connect(collectives_options);
  if (!collectives.ok()) return collectives.status();
  std::unique_ptr<Trace> trace;
  if (options.trace) trace = std::make_unique<Trace>();
  status = TrainTogether(*std::move(config), saves_required, *device, options, trace.get(), collectives->get());
  // All ranks stop after the same step: they leave together, as at the end of a whole run, where they wait until rank 0 has saved it.
  const Raised at_leisure(options.at_leisure);
  const absl::Status left = (*collectives)->Leave(absl::IsCancelled(status) ? absl::OkStatus() : status);
  if (!absl::IsCancelled(status)) status = left;
  collectives->reset();
  // Last of all: a trace that cannot be written costs nobody the model.
  if (trace != nullptr) {
    const absl::Status written = WriteTrace(*trace, options);
    if (status.ok()) status = written;
  }
  return status;
}

}  // namespace myriad
