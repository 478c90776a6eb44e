#include "client/query_stats.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/run_shards.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "client/shard_statistics.h"
#include "myriad/v1/shard_admin.pb.h"

namespace myriad {
namespace {

using Json = nlohmann::ordered_json;

// One head on one shard.
struct HeadFigures {
  std::string address;
  v1::GetStatisticsResponse server;  // Without heads.
  v1::HeadStatistics head;
  v1::GetCoverageResponse coverage;
};

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0.0; }
// Of the rows of steps that existed before.
double HitRate(const v1::RowStatistics& rows) { return Ratio(rows.hits(), rows.hits() + rows.awaited() + rows.misses()); }
double WriteAmplification(const v1::RowStatistics& rows) { return Ratio(rows.written_bytes(), rows.accepted_bytes()); }

Json ToJson(const v1::RowStatistics& rows) {
  return {{"hits", rows.hits()},
          {"awaited", rows.awaited()},
          {"misses", rows.misses()},
          {"created", rows.created()},
          {"hit_rate", HitRate(rows)},
          {"announced", rows.announced()},
          {"kept", rows.kept()},
          {"evicted", rows.evicted()},
          {"disk_wait_seconds", rows.disk_wait_seconds()},
          {"write_back_wait_seconds", rows.write_back_wait_seconds()},
          {"record_bytes", rows.record_bytes()},
          {"memory_rows", rows.memory_rows()},
          {"memory_limit_rows", rows.memory_limit_rows()},
          {"dirty_rows", rows.dirty_rows()},
          {"kept_partitions", rows.kept_partitions()},
          {"queued_rows", rows.queued_rows()},
          {"disk_rows", rows.disk_rows()},
          {"disk_bytes", rows.disk_bytes()},
          {"read_bytes", rows.read_bytes()},
          {"written_bytes", rows.written_bytes()},
          {"write_amplification", WriteAmplification(rows)},
          {"stall_seconds", rows.stall_seconds()},
          {"disk_memory_bytes", rows.disk_memory_bytes()},
          {"pending_compaction_bytes", rows.pending_compaction_bytes()}};
}

Json ToJson(const v1::GetCoverageResponse& coverage) {
  const auto list = [](const auto& values) {
    Json result = Json::array();
    for (const auto value : values) result.push_back(value);
    return result;
  };
  return {{"class_count", coverage.class_count()},
          {"row_count", coverage.row_count()},
          {"never_touched", coverage.class_count() - coverage.row_count()},
          {"committed_steps", coverage.committed_steps()},
          {"sampled_rows", coverage.sampled_rows()},
          {"given_rows", coverage.given_rows()},
          {"steps_since_moved", list(coverage.steps_since_moved())},
          {"watched_classes", coverage.watched_classes()},
          {"never_positive", coverage.never_positive()},
          {"steps_since_positive", list(coverage.steps_since_positive())},
          {"norm_mean", coverage.norm_mean()},
          {"norm_quantiles", list(coverage.norm_quantiles())}};
}

Json ToJson(const HeadFigures& figures, bool with_coverage) {
  Json json;
  json["shard"] = figures.address;
  json["head"] = figures.head.head();
  json["class_count"] = figures.head.class_count();
  json["committed_steps"] = figures.head.committed_steps();
  json["row_count"] = figures.head.row_count();
  json["aborted_attempts"] = figures.head.aborted_attempts();
  json["rss_bytes"] = figures.server.rss_bytes();
  json["peak_rss_bytes"] = figures.server.peak_rss_bytes();
  json["rows"] = ToJson(figures.head.rows());
  if (with_coverage) json["coverage"] = ToJson(figures.coverage);
  return json;
}

std::string MiB(int64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }
std::string Percent(double part) { return absl::StrFormat("%.1f %%", 100 * part); }

// "last step 3%, 1: 5%, 2-3: 10%, 4-7: ..."
std::string Ages(const google::protobuf::RepeatedField<int64_t>& counts) {
  double total = 0;
  for (const int64_t count : counts) total += static_cast<double>(count);
  std::vector<std::string> parts;
  for (int i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const int64_t low = i == 0 ? 0 : int64_t{1} << (i - 1), high = i == 0 ? 0 : (int64_t{1} << i) - 1;
    const std::string range = low == high ? absl::StrCat(low) : absl::StrCat(low, "-", high);
    parts.push_back(absl::StrCat(range, ": ", Percent(Ratio(static_cast<double>(counts[i]), total))));
  }
  return parts.empty() ? "none" : absl::StrJoin(parts, ", ");
}

void Print(const HeadFigures& figures, bool with_coverage, std::ostream& out) {
  const auto line = [&out](absl::string_view name, const std::string& value) { out << absl::StrFormat("  %-18s %s\n", name, value); };
  const v1::RowStatistics& rows = figures.head.rows();
  out << "head " << figures.head.head() << " on " << figures.address << "\n";
  line("steps", absl::StrCat(figures.head.committed_steps(), " committed, ", figures.head.aborted_attempts(), " attempts given up"));
  line("rows", absl::StrCat(figures.head.row_count(), " exist; ", rows.memory_rows(), " in memory of ",
                            rows.memory_limit_rows() == 0 ? "any number" : absl::StrCat(rows.memory_limit_rows()), ", ", rows.dirty_rows(),
                            " of them newer than on disk; ", rows.disk_rows(), " on disk"));
  line("bytes", absl::StrCat(MiB(rows.memory_rows() * rows.record_bytes()), " in memory, ", MiB(rows.disk_bytes()), " on disk, ",
                             MiB(rows.disk_memory_bytes()), " of index and buffers; process ", MiB(figures.server.rss_bytes()), ", peak ",
                             MiB(figures.server.peak_rss_bytes())));
  line("found in memory", absl::StrCat(Percent(HitRate(rows)), " of the steps' rows; ", rows.awaited(), " awaited, ", rows.misses(),
                                       " read by steps, ", rows.created(), " new"));
  line("read ahead",
       absl::StrCat(rows.announced(), " announced rows, ", rows.kept(), " with ", rows.kept_partitions(), " kept partitions"));
  line("disk", absl::StrCat(MiB(rows.read_bytes()), " read, ", MiB(rows.written_bytes()), " written, ",
                            absl::StrFormat("%.2f times what was given to it; ", WriteAmplification(rows)),
                            MiB(rows.pending_compaction_bytes()), " of compaction pending, ", rows.queued_rows(), " rows queued"));
  line("waits", absl::StrFormat("%.2f s for reads, %.2f s for write-back, %.2f s for compactions", rows.disk_wait_seconds(),
                                rows.write_back_wait_seconds(), rows.stall_seconds()));
  if (!with_coverage) return;
  const v1::GetCoverageResponse& coverage = figures.coverage;
  line("never touched", absl::StrCat(coverage.class_count() - coverage.row_count(), " of ", coverage.class_count(), " classes"));
  line("steps since moved", absl::StrCat(Ages(coverage.steps_since_moved()), " (", coverage.sampled_rows(), " rows looked at)"));
  line("since positive", absl::StrCat(Ages(coverage.steps_since_positive()), "; never: ", coverage.never_positive(), " of ",
                                      coverage.watched_classes(), " classes watched since the server started"));
  if (coverage.norm_quantiles_size() == 7) {
    line("norms of W", absl::StrFormat("mean %.4g; least %.4g, 1 %% %.4g, median %.4g, 99 %% %.4g, greatest %.4g", coverage.norm_mean(),
                                       coverage.norm_quantiles(0), coverage.norm_quantiles(1), coverage.norm_quantiles(3),
                                       coverage.norm_quantiles(5), coverage.norm_quantiles(6)));
  }
}

// Those named, or of the run.
absl::StatusOr<std::vector<std::string>> Addresses(const QueryOptions& query) {
  if (query.run_dir.empty() == query.shards.empty()) {
    return absl::InvalidArgumentError("these are figures of running servers: name them with --shards host:port,... or --run DIR");
  }
  if (query.run_dir.empty()) return query.shards;
  absl::StatusOr<std::vector<std::string>> live = RunShards::Find(query.run_dir);
  if (live.ok() && live->empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(query.run_dir, ": no run goes on there; these are figures of servers, and its servers are gone"));
  }
  return live;
}

absl::StatusOr<std::vector<HeadFigures>> Fetch(const StatsOptions& options) {
  const absl::StatusOr<std::vector<std::string>> addresses = Addresses(options.query);
  if (!addresses.ok()) return addresses.status();
  std::deque<ShardClient> shards;
  for (const std::string& address : *addresses) shards.emplace_back(static_cast<int>(shards.size()), address);
  CallPolicy policy;
  policy.deadline = options.query.timeout;
  policy.shard_wait = absl::ZeroDuration();  // Whoever asks may ask again.
  policy.lost_code = absl::StatusCode::kUnavailable;
  std::vector<ShardClient*> borrowed;
  for (ShardClient& shard : shards) borrowed.push_back(&shard);
  const absl::StatusOr<std::vector<v1::GetStatisticsResponse>> statistics = ReadStatistics(borrowed, policy);
  if (!statistics.ok()) return statistics.status();
  std::vector<HeadFigures> result;
  std::vector<ShardClient*> shard_of;
  for (size_t k = 0; k < statistics->size(); ++k) {
    for (const v1::HeadStatistics& head : (*statistics)[k].heads()) {
      if (!options.query.head.empty() && options.query.head != head.head()) continue;
      HeadFigures figures;
      figures.address = shards[k].address();
      figures.server = (*statistics)[k];
      figures.server.clear_heads();
      figures.head = head;
      result.push_back(std::move(figures));
      shard_of.push_back(borrowed[k]);
    }
  }
  if (result.empty()) {
    return absl::NotFoundError(options.query.head.empty() ? "these shards have no head yet"
                                                          : absl::StrCat("these shards have no head '", options.query.head, "'"));
  }
  if (!options.coverage) return result;
  std::deque<v1::GetCoverageRequest> requests;
  ShardCalls<v1::GetCoverageRequest, v1::GetCoverageResponse> coverage(
      [](ShardClient& shard, grpc::ClientContext* rpc, const v1::GetCoverageRequest* request, v1::GetCoverageResponse* response,
         PendingCalls::Done done) { shard.admin().async()->GetCoverage(rpc, request, response, std::move(done)); },
      policy);
  for (size_t i = 0; i < result.size(); ++i) {
    requests.emplace_back();
    requests.back().set_head(result[i].head.head());
    requests.back().set_sample_rows(options.sample_rows);
    coverage.Start(shard_of[i], &requests.back());
  }
  if (absl::Status status = coverage.Wait(); !status.ok()) return status;
  for (size_t i = 0; i < result.size(); ++i) result[i].coverage = coverage.response(i);
  return result;
}

}  // namespace

absl::Status QueryStats(const StatsOptions& options, std::ostream& out) {
  const absl::StatusOr<std::vector<HeadFigures>> figures = Fetch(options);
  if (!figures.ok()) return figures.status();
  if (options.query.json) {
    Json json;
    for (const HeadFigures& head : *figures) json["heads"].push_back(ToJson(head, options.coverage));
    out << json.dump() << "\n";
    return absl::OkStatus();
  }
  for (const HeadFigures& head : *figures) Print(head, options.coverage, out);
  return absl::OkStatus();
}

}  // namespace myriad
