#include "client/bench_head_run.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include <ATen/Functions.h>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "client/shard_statistics.h"
#include "head/partitions.h"
#include "head/pool_rotation.h"
#include "head/virtual_rows.h"

namespace myriad {
namespace {

constexpr int kGemmRuns = 8;  // Before the steps, and again after them.
constexpr int64_t kEmbeddingBatches = 8;
constexpr double kLearningRate = 0.1;
// Steps whose labels are announced.
constexpr size_t kStepsAhead = 2;  // As a training run by default.
// How often the warm-up asks whether memory is full, and the steps after which it asks no more.
constexpr int kFullCheck = 16;
constexpr int kMostWarmupSteps = 5000;
// Steps before and behind the timed ones by which rows that are newer than on disk are counted.
constexpr int kDirtySteps = 24;

// A run against servers that are up.
class HeadBench {
 public:
  HeadBench(const BenchHeadOptions& options, const std::vector<std::string>& addresses)
      : options_(options), client_options_(BenchHeadClientOptions(options, addresses)), random_(1) {
    for (size_t k = 0; k < addresses.size(); ++k) shards_.push_back(std::make_unique<ShardClient>(static_cast<int>(k), addresses[k]));
  }

  absl::Status Run(BenchHeadFigures* figures) {
    absl::StatusOr<std::unique_ptr<HeadClient>> client = HeadClient::Create(client_options_);
    if (!client.ok()) return client.status();
    client_ = *std::move(client);
    absl::StatusOr<int64_t> incarnation = client_->MintIncarnation();
    if (!incarnation.ok()) return incarnation.status();
    absl::StatusOr<int64_t> first_step = client_->Open(*incarnation);
    if (!first_step.ok()) return first_step.status();
    next_step_ = *first_step;
    for (int64_t i = 0; i < kEmbeddingBatches; ++i) embeddings_.push_back(at::randn({options_.batch, options_.dim}));

    if (absl::Status status = PrepareRows(figures); !status.ok()) return status;
    if (absl::Status status = WarmUp(figures); !status.ok()) return status;
    if (absl::Status status = WaitUntilApplied(); !status.ok()) return status;
    // The products have as many rows as the steps.
    GemmReference gemm(warmup_rows_ / figures->warmup_steps, options_.batch, options_.dim);
    gemm.Run(kGemmRuns);
    const absl::StatusOr<int64_t> dirty_before = DirtyBytes();
    if (!dirty_before.ok()) return dirty_before.status();
    if (absl::Status status = TimeSteps(figures); !status.ok()) return status;
    const absl::StatusOr<int64_t> dirty_after = DirtyBytes();
    if (!dirty_after.ok()) return dirty_after.status();
    if (figures->tiers) {
      figures->tiers->dirty_bytes_at_start = *dirty_before;
      figures->tiers->dirty_bytes_at_end = *dirty_after;
    }
    gemm.Run(kGemmRuns);
    figures->gemm = gemm.Median();
    return absl::OkStatus();
  }

 private:
  // Sums over the shards.
  struct Totals {
    v1::RowStatistics tiers;
    int64_t rows = 0;
    std::vector<int64_t> peak_rss_bytes;
  };

  // Rows that the run touches at most.
  int64_t RowsOfRun() const { return (options_.samples + options_.batch) * (int64_t{options_.warmup_steps} + options_.steps); }

  absl::Status CheckStop() const {
    return options_.should_stop && options_.should_stop() ? absl::CancelledError("interrupted") : absl::OkStatus();
  }

  // A run that would draw as many rows as there are finds all of them written; another makes new rows in every step and finds their memory
  // reserved. Either way no step pays for the first use of a page.
  absl::Status PrepareRows(BenchHeadFigures* figures) {
    const bool write_all = options_.classes <= RowsOfRun() && !options_.prefill;
    figures->rows_written_before = write_all || options_.prefill;
    const absl::Time start = absl::Now();
    if (absl::Status status = ReserveRows(options_.prefill ? options_.classes : std::min(options_.classes, RowsOfRun())); !status.ok()) {
      return status;
    }
    figures->reserve_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (options_.prefill) return Prefill(figures);
    return write_all ? WriteAllRows() : absl::OkStatus();
  }

  absl::Status Prefill(BenchHeadFigures* figures) {
    v1::StoreVirtualRowsRequest request;
    request.set_head(client_options_.head.name);
    CallPolicy policy;
    policy.deadline = absl::Hours(2);
    ShardCalls<v1::StoreVirtualRowsRequest, v1::StoreVirtualRowsResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::StoreVirtualRowsRequest* request, v1::StoreVirtualRowsResponse* response,
           PendingCalls::Done done) { shard.admin().async()->StoreVirtualRows(rpc, request, response, std::move(done)); },
        policy);
    for (const std::unique_ptr<ShardClient>& shard : shards_) calls.Start(shard.get(), &request);
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    PrefillFigures prefill;
    for (size_t k = 0; k < calls.size(); ++k) {
      const v1::StoreVirtualRowsResponse& response = calls.response(k);
      prefill.rows += response.rows();
      prefill.data_bytes += response.rows() * response.record_bytes();
      prefill.written_bytes += response.written_bytes();
      prefill.seconds = std::max(prefill.seconds, response.seconds());
      const double direct = response.direct_write_bytes_per_second();
      if (k == 0 || direct < prefill.direct_write_bytes_per_second) prefill.direct_write_bytes_per_second = direct;
    }
    figures->prefill = prefill;
    return absl::OkStatus();
  }

  // Until the rows of a pool have been replaced twice: as many rows are newer in memory than on disk as ever.
  int64_t StepsUntilPoolIsEven() const {
    const SamplerOptions& sampler = client_options_.training.sampler;
    if (options_.store.empty() || sampler.kind != SamplerOptions::Kind::kPool) return 0;
    return std::min<int64_t>(kMostWarmupSteps, sampler.pool_size * 2 / sampler.rotated_rows);
  }

  // As many steps as were asked for, and with a bounded memory as many as fill it.
  absl::Status WarmUp(BenchHeadFigures* figures) {
    const int64_t least_steps = std::max<int64_t>(options_.warmup_steps, StepsUntilPoolIsEven());
    for (bool full = false; figures->warmup_steps < least_steps || !full;) {
      absl::StatusOr<StepResult> result = Step();
      if (!result.ok()) return result.status();
      warmup_rows_ += result->row_count;
      ++figures->warmup_steps;
      if (figures->warmup_steps % kFullCheck != 0 && figures->warmup_steps < least_steps) continue;
      const absl::StatusOr<Totals> now = ReadTotals();
      if (!now.ok()) return now.status();
      const int64_t limit = std::min(now->tiers.memory_limit_rows(), now->rows);
      full = options_.store.empty() || figures->warmup_steps >= kMostWarmupSteps || now->tiers.memory_rows() >= limit - limit / 100;
    }
    return absl::OkStatus();
  }

  absl::Status ReserveRows(int64_t rows) {
    const Partitions partitions(options_.classes, client_options_.head.seed, client_options_.head.partition_count);
    const int shard_count = static_cast<int>(shards_.size());
    std::vector<v1::ReserveRowsRequest> requests(shards_.size());
    CallPolicy policy;
    policy.deadline = absl::Minutes(10);
    ShardCalls<v1::ReserveRowsRequest, v1::ReserveRowsResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::ReserveRowsRequest* request, v1::ReserveRowsResponse* response,
           PendingCalls::Done done) { shard.admin().async()->ReserveRows(rpc, request, response, std::move(done)); },
        policy);
    for (int k = 0; k < shard_count; ++k) {
      // A shard's share of the rows, with room for chance where there is any.
      const int64_t share = shard_count == 1 ? rows : rows / shard_count + rows / shard_count / 50 + 64;
      requests[k].set_head(client_options_.head.name);
      requests[k].set_row_count(std::min(partitions.ShardSize(k, shard_count), share));
      calls.Start(shards_[k].get(), &requests[k]);
    }
    return calls.Wait();
  }

  absl::Status WriteAllRows() {
    constexpr int64_t kRowsAtOnce = 16384;
    for (int64_t first = 0; first < options_.classes; first += kRowsAtOnce) {
      if (absl::Status status = CheckStop(); !status.ok()) return status;
      const int64_t count = std::min(kRowsAtOnce, options_.classes - first);
      std::vector<int64_t> class_ids(count);
      at::Tensor weights = at::empty({count, options_.dim});
      for (int64_t i = 0; i < count; ++i) {
        class_ids[i] = first + i;
        FillVirtualRow(client_options_.head, first + i, weights.data_ptr<float>() + i * options_.dim);
      }
      if (absl::Status status = client_->WriteRows(class_ids, weights, at::Tensor()); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Uniform over all classes; those of coming steps are known, as a reader of images knows them.
  std::vector<int64_t> DrawLabels() {
    std::uniform_int_distribution<int64_t> any_class(0, options_.classes - 1);
    std::vector<int64_t> labels(options_.batch);
    for (int64_t& label : labels) label = any_class(random_);
    return labels;
  }

  absl::StatusOr<StepResult> Step() {
    if (absl::Status status = CheckStop(); !status.ok()) return status;
    while (coming_labels_.size() <= kStepsAhead) coming_labels_.push_back(DrawLabels());
    const std::vector<int64_t> labels = std::move(coming_labels_.front());
    coming_labels_.erase(coming_labels_.begin());
    StepInput input;
    input.step = next_step_++;
    input.learning_rate = kLearningRate;
    input.embeddings = embeddings_[input.step % kEmbeddingBatches];
    input.labels = labels;
    // Without a disk there is nothing to read ahead, and the wire is measured.
    if (!options_.store.empty()) input.coming_labels = coming_labels_;
    return client_->Step(input);
  }

  // Reads of rows wait for the step before them, on every shard.
  absl::Status WaitUntilApplied() {
    const Partitions partitions(options_.classes, client_options_.head.seed, client_options_.head.partition_count);
    const int shard_count = static_cast<int>(shards_.size());
    std::vector<int64_t> class_ids;
    for (int k = 0; k < shard_count; ++k) {
      const auto [first, last] = partitions.ShardRange(k, shard_count);
      for (int32_t partition = first; partition < last; ++partition) {
        if (partitions.size(partition) == 0) continue;
        class_ids.push_back(partitions.ClassAt({partition, 0}));
        break;
      }
    }
    return client_->FetchCenters(class_ids, nullptr).status();
  }

  // Of rows newer in memory than on disk, the write-back queue included: the mean over some steps more, because a partition that leaves a
  // pool takes its rows along at once. As many go before them: the queue is empty after a pause.
  absl::StatusOr<int64_t> DirtyBytes() {
    if (options_.store.empty()) return 0;
    int64_t sum = 0;
    for (int i = 0; i < 2 * kDirtySteps; ++i) {
      if (absl::Status status = Step().status(); !status.ok()) return status;
      if (absl::Status status = WaitUntilApplied(); !status.ok()) return status;
      if (i < kDirtySteps) continue;
      const absl::StatusOr<Totals> now = ReadTotals();
      if (!now.ok()) return now.status();
      sum += (now->tiers.dirty_rows() + now->tiers.queued_rows()) * now->tiers.record_bytes();
    }
    return sum / kDirtySteps;
  }

  // A step lasts from its start to the start of the next, so that what a shard puts off to after its reply is paid for; the last one lasts
  // until that is done.
  absl::Status TimeSteps(BenchHeadFigures* figures) {
    std::vector<absl::Time> starts;
    std::vector<double> gather, forward, vote, apply, disk_wait;
    const absl::StatusOr<Totals> before = ReadTotals();
    if (!before.ok()) return before.status();
    for (int i = 0; i < options_.steps; ++i) {
      starts.push_back(absl::Now());
      absl::StatusOr<StepResult> result = Step();
      if (!result.ok()) return result.status();
      figures->wire_bytes_per_step += static_cast<double>(result->wire_bytes) / options_.steps;
      figures->rows_per_step += static_cast<double>(result->row_count) / options_.steps;
      gather.push_back(result->shard_seconds.gather);
      forward.push_back(result->shard_seconds.forward);
      vote.push_back(result->shard_seconds.vote);
      apply.push_back(result->shard_seconds.previous_apply);
      disk_wait.push_back(result->row_sources.disk_wait_seconds);
    }
    if (absl::Status status = WaitUntilApplied(); !status.ok()) return status;
    starts.push_back(absl::Now());
    for (int i = 0; i < options_.steps; ++i) figures->step_seconds.push_back(absl::ToDoubleSeconds(starts[i + 1] - starts[i]));
    std::sort(figures->step_seconds.begin(), figures->step_seconds.end());
    figures->shard_seconds = {Median(gather), Median(forward), Median(vote), Median(apply)};
    const absl::StatusOr<Totals> after = ReadTotals();
    if (!after.ok()) return after.status();
    figures->peak_rss_bytes = after->peak_rss_bytes;
    figures->rows_touched = after->rows;
    if (!options_.store.empty()) figures->tiers = Tiers(before->tiers, after->tiers, disk_wait);
    return absl::OkStatus();
  }

  TierFigures Tiers(const v1::RowStatistics& before, const v1::RowStatistics& after, std::vector<double> disk_wait) const {
    TierFigures figures;
    const int64_t hits = after.hits() - before.hits();
    const int64_t others = after.awaited() + after.misses() + after.created() - before.awaited() - before.misses() - before.created();
    const auto per_step = [&](int64_t then, int64_t now) { return static_cast<double>(now - then) / options_.steps; };
    const int64_t accepted = after.accepted_bytes() - before.accepted_bytes();
    const int64_t written = after.written_bytes() - before.written_bytes();
    figures.hit_rate = static_cast<double>(hits) / std::max<int64_t>(1, hits + others);
    figures.disk_read_bytes_per_step = per_step(before.read_bytes(), after.read_bytes());
    figures.write_bytes_per_step = static_cast<double>(written) / options_.steps;
    figures.write_amplification = accepted > 0 ? static_cast<double>(written) / accepted : 0.0;
    figures.rotated_rows_per_step = per_step(before.kept(), after.kept());
    std::sort(disk_wait.begin(), disk_wait.end());
    figures.disk_wait_seconds = std::move(disk_wait);
    figures.memory_rows = after.memory_rows();
    figures.memory_rows_limit = after.memory_limit_rows();
    figures.disk_bytes = after.disk_bytes();
    return figures;
  }

  absl::StatusOr<Totals> ReadTotals() {
    std::vector<ShardClient*> borrowed;
    for (const std::unique_ptr<ShardClient>& shard : shards_) borrowed.push_back(shard.get());
    const absl::StatusOr<std::vector<v1::GetStatisticsResponse>> servers = ReadStatistics(borrowed, CallPolicy());
    if (!servers.ok()) return servers.status();
    Totals totals;
    for (const v1::GetStatisticsResponse& server : *servers) {
      totals.peak_rss_bytes.push_back(server.peak_rss_bytes());
      for (const v1::HeadStatistics& head : server.heads()) {
        if (head.head() != client_options_.head.name) continue;
        totals.rows += head.row_count();
        AddTiers(head.rows(), &totals.tiers);
      }
    }
    return totals;
  }

  // Of the figures that Tiers() looks at.
  static void AddTiers(const v1::RowStatistics& more, v1::RowStatistics* sum) {
    sum->set_hits(sum->hits() + more.hits());
    sum->set_awaited(sum->awaited() + more.awaited());
    sum->set_misses(sum->misses() + more.misses());
    sum->set_created(sum->created() + more.created());
    sum->set_kept(sum->kept() + more.kept());
    sum->set_record_bytes(more.record_bytes());
    sum->set_memory_rows(sum->memory_rows() + more.memory_rows());
    sum->set_memory_limit_rows(sum->memory_limit_rows() + more.memory_limit_rows());
    sum->set_dirty_rows(sum->dirty_rows() + more.dirty_rows());
    sum->set_queued_rows(sum->queued_rows() + more.queued_rows());
    sum->set_disk_bytes(sum->disk_bytes() + more.disk_bytes());
    sum->set_read_bytes(sum->read_bytes() + more.read_bytes());
    sum->set_written_bytes(sum->written_bytes() + more.written_bytes());
    sum->set_accepted_bytes(sum->accepted_bytes() + more.accepted_bytes());
  }

  const BenchHeadOptions options_;
  const HeadClient::Options client_options_;
  std::vector<std::unique_ptr<ShardClient>> shards_;  // For what a HeadClient has no method for.
  std::unique_ptr<HeadClient> client_;
  std::mt19937_64 random_;
  std::vector<at::Tensor> embeddings_;
  std::vector<std::vector<int64_t>> coming_labels_;  // Of the next steps, in order.
  int64_t warmup_rows_ = 0;
  int64_t next_step_ = 0;
};

}  // namespace

HeadClient::Options BenchHeadClientOptions(const BenchHeadOptions& options, const std::vector<std::string>& addresses) {
  HeadClient::Options client;
  client.head.name = "bench";
  client.head.class_count = options.classes;
  client.head.embedding_dim = options.dim;
  client.head.weight_dtype = client.head.slot_dtype = options.dtype;
  client.head.slots = client.training.optimizer.kind = options.optimizer;
  client.training.optimizer.idle_update = options.idle_update;
  SamplerOptions& sampler = client.training.sampler;
  sampler.kind = options.sampler;
  sampler.sample_count = options.samples;
  if (sampler.kind == SamplerOptions::Kind::kPool) {
    sampler.pool_size = options.pool_size > 0 ? options.pool_size : DefaultPoolSize(options.samples, options.classes);
    sampler.rotated_rows = options.rotated_rows > 0 ? options.rotated_rows : DefaultRotatedRows(options.samples);
  }
  client.training.placement = options.placement;
  client.shard_addresses = addresses;
  client.labels_per_step = options.batch;
  return client;
}

absl::Status RunBenchHeadSteps(const BenchHeadOptions& options, const std::vector<std::string>& addresses, BenchHeadFigures* figures) {
  return HeadBench(options, addresses).Run(figures);
}

}  // namespace myriad
