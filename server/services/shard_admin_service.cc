#include "server/services/shard_admin_service.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"
#include "head/given_row.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"
#include "server/coverage_sampling.h"
#include "server/services/row_stream.h"
#include "server/services/unary.h"
#include "server/step/row_gate.h"

namespace myriad {
namespace {

// Keys of a pass over the table of rows; each pass looks at all of it.
constexpr int64_t kScanKeys = 1 << 20;
constexpr int64_t kCoverageRows = 1 << 16;
constexpr int64_t kMaxCoverageRows = 1 << 20;
// How long a reader may still take over the message on its way once a step of the run has waited for the rows.
constexpr absl::Duration kYieldPatience = absl::Seconds(1);

// A field of /proc/self/status in bytes; 0 if there is none.
int64_t ReadProcessStatus(const std::string& field) {
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word) {
    int64_t kib;
    if (word == field && file >> kib) return kib * 1024;
  }
  return 0;
}

void FillRows(const RowStoreStatistics& from, v1::RowStatistics* to) {
  to->set_hits(from.hits);
  to->set_awaited(from.awaited);
  to->set_misses(from.misses);
  to->set_created(from.created);
  to->set_announced(from.announced);
  to->set_kept(from.kept);
  to->set_evicted(from.evicted);
  to->set_disk_wait_seconds(from.disk_wait_seconds);
  to->set_write_back_wait_seconds(from.write_back_wait_seconds);
  to->set_record_bytes(from.record_bytes);
  to->set_memory_rows(from.slab_rows);
  to->set_memory_limit_rows(from.slab_limit_rows);
  to->set_dirty_rows(from.dirty_rows);
  to->set_kept_partitions(from.kept_partitions);
  to->set_queued_rows(from.queued_rows);
  to->set_disk_rows(from.cold.record_count_estimate);
  to->set_disk_bytes(from.cold.disk_bytes);
  to->set_read_bytes(from.cold.read_bytes);
  to->set_written_bytes(from.cold.written_bytes);
  to->set_accepted_bytes(from.cold.accepted_bytes);
  to->set_stall_seconds(from.cold.stall_seconds);
  to->set_disk_memory_bytes(from.cold.memory_bytes);
  to->set_pending_compaction_bytes(from.cold.pending_compaction_bytes);
}

// All rows of a head, or given ones, at one instant, message by message.
class RowReader : public std::enable_shared_from_this<RowReader> {
 public:
  using Made = MessageStream<v1::ReadRowsResponse>::Made;

  // Reads the rows that exist, or those of `class_ids` alone. Requires: HeadShard::CheckClassIds of them.
  RowReader(std::shared_ptr<HeadShard> head, std::optional<std::vector<int64_t>> class_ids, bool with_slots)
      : head_(std::move(head)), with_slots_(with_slots), given_(class_ids.has_value()) {
    if (given_) {
      keys_ = *std::move(class_ids);
      scanned_all_ = true;
    }
  }

  // What to do when a step waits for the rows, beside ending the stream with its next message. Before the first Next().
  void OnYield(std::function<void()> hurry) { hurry_ = std::move(hurry); }

  void Next(Made made) {
    if (!hold_) {
      head_->HoldRows(
          [this, made = std::move(made)](RowGate::ReaderId reader) {
            hold_ = reader;
            // While the rows are held, no other comes to exist.
            row_count_ = given_ ? static_cast<int64_t>(keys_.size()) : head_->row_count();
            Next(made);
          },
          [weak = weak_from_this()] {
            if (const std::shared_ptr<RowReader> self = weak.lock()) self->Yield();
          });
      return;
    }
    if (yields_) {
      return made(absl::FailedPreconditionError(absl::StrCat("a step of the run that trains head '", head_->spec().name,
                                                             "' has waited for its rows: read them when the run rests or has ended")));
    }
    if (next_ == keys_.size() && !scanned_all_) {
      const int64_t after = keys_.empty() ? -1 : keys_.back();
      head_->ScanKeys(after, kScanKeys, [this, made = std::move(made)](absl::StatusOr<std::vector<int64_t>> keys) {
        if (!keys.ok()) return made(keys.status());
        scanned_all_ = static_cast<int64_t>(keys->size()) < kScanKeys;
        keys_ = *std::move(keys);
        next_ = 0;
        Next(made);
      });
      return;
    }
    if (next_ == keys_.size()) return made(std::unique_ptr<v1::ReadRowsResponse>());
    const size_t count = std::min<size_t>(RowsPerMessage(head_->spec(), with_slots_), keys_.size() - next_);
    std::vector<int64_t> part(keys_.begin() + next_, keys_.begin() + next_ + count);
    next_ += count;
    const auto pack = [this, made = std::move(made)](const absl::StatusOr<HeadShard::Rows>& rows) {
      if (!rows.ok()) return made(rows.status());
      auto message = std::make_unique<v1::ReadRowsResponse>();
      message->set_class_ids(EncodeArray<int64_t>(rows->class_ids));
      EncodeMatrix(rows->weights, DataType::kFloat32, message->mutable_centers());
      if (with_slots_) EncodeMatrix(rows->slots, DataType::kFloat32, message->mutable_slots());
      message->set_last_step(EncodeArray<int64_t>(rows->last_step));
      message->set_committed_steps(rows->committed_steps);
      message->set_exists(rows->exists.data(), rows->exists.size());
      message->set_row_count(row_count_);
      made(std::move(message));
    };
    if (given_) {
      head_->Read(std::move(part), with_slots_, pack);
    } else {
      head_->ReadKeys(std::move(part), with_slots_, pack);
    }
  }

  void End() {
    if (hold_) head_->ReleaseRows(*hold_);
  }

 private:
  void Yield() {
    yields_ = true;
    hurry_();
  }

  const std::shared_ptr<HeadShard> head_;
  const bool with_slots_;
  const bool given_;  // keys_ are class ids.
  std::function<void()> hurry_;
  std::optional<RowGate::ReaderId> hold_;
  std::atomic<bool> yields_ = false;
  std::vector<int64_t> keys_;  // Of the last scan; read up to next_.
  size_t next_ = 0;
  bool scanned_all_ = false;
  int64_t row_count_ = 0;  // Of the whole stream.
};

absl::Status CheckPlace(int shard_index, int shard_count) {
  if (shard_count < 1 || shard_count > 4096) {
    return absl::InvalidArgumentError(absl::StrCat("shard_count ", shard_count, " is outside [1, 4096]"));
  }
  if (shard_index < 0 || shard_index >= shard_count) {
    return absl::InvalidArgumentError(absl::StrCat("shard_index ", shard_index, " is outside [0, ", shard_count, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ShardAdminService::CreateHead(grpc::CallbackServerContext* context, const v1::CreateHeadRequest* request,
                                                        v1::CreateHeadResponse*) {
  absl::StatusOr<HeadSpec> head = ParseHeadSpec(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  if (absl::Status status = CheckPlace(request->shard_index(), request->shard_count()); !status.ok()) return FinishNow(context, status);
  return FinishNow(context, shard_->FindOrCreate(*head, request->shard_index(), request->shard_count()).status());
}

grpc::ServerUnaryReactor* ShardAdminService::WriteRows(grpc::CallbackServerContext* context, const v1::WriteRowsRequest* request,
                                                       v1::WriteRowsResponse*) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  const HeadSpec spec = (*head)->spec();
  absl::StatusOr<std::vector<int64_t>> class_ids = DecodeArray<int64_t>(request->class_ids(), "class_ids");
  if (!class_ids.ok()) return FinishNow(context, class_ids.status());
  if (absl::Status status = (*head)->CheckClassIds(*class_ids); !status.ok()) return FinishNow(context, status);
  absl::StatusOr<at::Tensor> centers = ViewMatrix(request->centers(), spec.embedding_dim, "centers");
  if (!centers.ok()) return FinishNow(context, centers.status());
  absl::StatusOr<at::Tensor> slots = at::empty({0, 0}, at::kFloat);
  if (request->has_slots()) slots = ViewMatrix(request->slots(), SlotNumbers(spec), "slots");
  if (!slots.ok()) return FinishNow(context, slots.status());
  const int64_t rows = class_ids->size();
  if (centers->size(0) != rows || (request->has_slots() && slots->size(0) != rows)) {
    return FinishNow(context, absl::InvalidArgumentError(
                                  absl::StrCat(rows, " class ids, ", centers->size(0), " centers, ", slots->size(0), " rows of slots")));
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float* const row_slots = request->has_slots() ? slots->const_data_ptr<float>() + row * slots->size(1) : nullptr;
    const absl::Status status = CheckGivenRow(spec, centers->const_data_ptr<float>() + row * centers->size(1), row_slots);
    if (!status.ok()) return FinishNow(context, Annotate(status, absl::StrCat("class ", (*class_ids)[row])));
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*head)->Write(
      *std::move(class_ids), *centers, *slots, [context] { return context->IsCancelled(); },
      [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerWriteReactor<v1::ReadRowsResponse>* ShardAdminService::ReadRows(grpc::CallbackServerContext* context,
                                                                            const v1::ReadRowsRequest* request) {
  using Stream = MessageStream<v1::ReadRowsResponse>;
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(request->head());
  std::optional<std::vector<int64_t>> class_ids;
  const absl::Status status = [&] {
    if (!head.ok() || request->class_ids().empty()) return head.status();
    absl::StatusOr<std::vector<int64_t>> ids = DecodeArray<int64_t>(request->class_ids(), "class_ids");
    if (!ids.ok()) return ids.status();
    class_ids = *std::move(ids);
    return (*head)->CheckClassIds(*class_ids);
  }();
  Stream* stream;
  if (status.ok()) {
    auto reader = std::make_shared<RowReader>(*std::move(head), std::move(class_ids), request->with_slots());
    stream = new Stream(
        context, shard_->timer(), [reader](Stream::Made made) { reader->Next(std::move(made)); }, [reader] { reader->End(); });
    reader->OnYield([guard = stream->guard()] { guard->Hurry(kYieldPatience); });
  } else {
    stream = new Stream(
        context, shard_->timer(), [status](const Stream::Made& made) { made(status); }, [] {});
  }
  stream->Start();
  return stream;
}

grpc::ServerUnaryReactor* ShardAdminService::ReserveRows(grpc::CallbackServerContext* context, const v1::ReserveRowsRequest* request,
                                                         v1::ReserveRowsResponse*) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*head)->Reserve(request->row_count(), [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::GetCoverage(grpc::CallbackServerContext* context, const v1::GetCoverageRequest* request,
                                                         v1::GetCoverageResponse* response) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  const int64_t rows = request->sample_rows() == 0 ? kCoverageRows : request->sample_rows();
  if (rows < 1 || rows > kMaxCoverageRows) {
    return FinishNow(context, absl::InvalidArgumentError(absl::StrCat("sample_rows ", rows, " is outside [1, ", kMaxCoverageRows, "]")));
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  SampleCoverage(*std::move(head), rows, [reactor, response](const absl::StatusOr<Coverage>& coverage) {
    if (coverage.ok()) {
      response->set_class_count(coverage->class_count);
      response->set_row_count(coverage->row_count);
      response->set_committed_steps(coverage->committed_steps);
      response->set_sampled_rows(coverage->sampled_rows);
      response->set_given_rows(coverage->given_rows);
      for (const int64_t count : coverage->steps_since_moved) response->add_steps_since_moved(count);
      response->set_watched_classes(coverage->watched_classes);
      response->set_never_positive(coverage->never_positive);
      for (const int64_t count : coverage->steps_since_positive) response->add_steps_since_positive(count);
      response->set_norm_mean(coverage->norm_mean);
      for (const double norm : coverage->norm_quantiles) response->add_norm_quantiles(norm);
    }
    reactor->Finish(ToGrpcStatus(coverage.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::SaveHead(grpc::CallbackServerContext* context, const v1::SaveHeadRequest* request,
                                                      v1::SaveHeadResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  shard_->SaveHead(request->head(), request->incarnation(), request->step(), request->save(),
                   [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::RestoreHead(grpc::CallbackServerContext* context, const v1::RestoreHeadRequest* request,
                                                         v1::RestoreHeadResponse* response) {
  absl::StatusOr<HeadSpec> head = ParseHeadSpec(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  if (absl::Status status = CheckPlace(request->shard_index(), request->shard_count()); !status.ok()) return FinishNow(context, status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  shard_->RestoreHead(*head, request->shard_index(), request->shard_count(), request->save(),
                      [reactor, response](const absl::StatusOr<int64_t>& committed_steps) {
                        if (committed_steps.ok()) response->set_committed_steps(*committed_steps);
                        reactor->Finish(ToGrpcStatus(committed_steps.status()));
                      });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::DropSave(grpc::CallbackServerContext* context, const v1::DropSaveRequest* request,
                                                      v1::DropSaveResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  shard_->DropSave(request->head(), request->save(), [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::ListSaves(grpc::CallbackServerContext* context, const v1::ListSavesRequest*,
                                                       v1::ListSavesResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  shard_->ListSaves([reactor, response](const absl::StatusOr<std::vector<ShardSaves::Entry>>& entries) {
    for (size_t i = 0; entries.ok() && i < entries->size(); ++i) {
      const ShardSaves::Entry& entry = (*entries)[i];
      if (!entry.state.ok()) continue;  // The log has it.
      v1::HeadSave* save = response->add_saves();
      save->set_save(entry.save);
      save->set_head(entry.head);
      save->set_committed_steps(entry.state->committed_steps);
    }
    reactor->Finish(ToGrpcStatus(entries.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::StoreVirtualRows(grpc::CallbackServerContext* context,
                                                              const v1::StoreVirtualRowsRequest* request,
                                                              v1::StoreVirtualRowsResponse* response) {
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(request->head());
  if (!head.ok()) return FinishNow(context, head.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*head)->StoreVirtualRows([reactor, response](const absl::StatusOr<HeadShard::StoredRun>& run) {
    if (!run.ok()) return reactor->Finish(ToGrpcStatus(run.status()));
    response->set_rows(run->rows);
    response->set_record_bytes(run->record_bytes);
    response->set_written_bytes(run->written_bytes);
    response->set_seconds(run->seconds);
    response->set_direct_write_bytes_per_second(run->direct_write_bytes_per_second);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::GrowHead(grpc::CallbackServerContext* context, const v1::GrowHeadRequest* request,
                                                      v1::GrowHeadResponse*) {
  absl::StatusOr<HeadSpec> now = ParseHeadSpec(request->head());
  if (!now.ok()) return FinishNow(context, now.status());
  HeadSpec grown = *now;
  grown.class_count = request->class_count();
  if (absl::Status status = Validate(grown); !status.ok()) return FinishNow(context, status);
  if (grown.class_count < now->class_count) {
    return FinishNow(context, absl::InvalidArgumentError(
                                  absl::StrCat("class_count is ", grown.class_count, "; the head has ", now->class_count, " already")));
  }
  absl::StatusOr<std::shared_ptr<HeadShard>> head = shard_->Find(now->name);
  if (!head.ok()) return FinishNow(context, head.status());
  if (absl::Status status = (*head)->CheckPlace(request->shard_index(), request->shard_count()); !status.ok()) {
    return FinishNow(context, status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*head)->Grow(*now, request->class_count(), request->committed_steps(), request->check_only(),
                [reactor](const absl::Status& status) { reactor->Finish(ToGrpcStatus(status)); });
  return reactor;
}

grpc::ServerUnaryReactor* ShardAdminService::GetStatistics(grpc::CallbackServerContext* context, const v1::GetStatisticsRequest*,
                                                           v1::GetStatisticsResponse* response) {
  response->set_version(facts_.version);
  response->set_rss_bytes(ReadProcessStatus("VmRSS:"));
  response->set_peak_rss_bytes(ReadProcessStatus("VmHWM:"));
  response->set_max_rows(shard_->max_rows());
  response->set_compute_threads(facts_.compute_threads);
  for (const std::shared_ptr<HeadShard>& head : shard_->heads()) {
    const HeadShard::Info info = head->info();
    v1::HeadStatistics* statistics = response->add_heads();
    statistics->set_head(info.head.name);
    statistics->set_class_count(info.head.class_count);
    statistics->set_committed_steps(info.committed_steps);
    statistics->set_row_count(info.row_count);
    statistics->set_reserved_row_count(info.reserved_row_count);
    statistics->set_open_steps(info.steps.open_steps);
    statistics->set_aborted_attempts(info.steps.aborted_attempts);
    FillRows(info.rows, statistics->mutable_rows());
  }
  return FinishNow(context, absl::OkStatus());
}

}  // namespace myriad
