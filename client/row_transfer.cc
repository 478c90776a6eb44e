#include "client/row_transfer.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <ATen/Functions.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/stream_watch.h"
#include "proto/wire/matrix_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

constexpr int64_t kIdsPerFetch = 65536;
constexpr int64_t kBytesPerWrite = int64_t{4} << 20;
constexpr absl::Duration kBackoff = absl::Milliseconds(100);

// Reads a stream from one shard to its end. `open` starts it (again); `take` gets each message and may end it with an error. The shard may
// take `deadline` over each message, and a stream may have any number of them. One broken by UNAVAILABLE before its first message starts
// again until `shard_wait` has passed; `restartable` says that one broken later may start again too.
template <typename Response>
absl::Status ReadStream(const ShardClient& shard, const CallPolicy& policy, bool restartable,
                        const std::function<std::unique_ptr<grpc::ClientReader<Response>>(grpc::ClientContext*)>& open,
                        const std::function<absl::Status(const Response&)>& take) {
  absl::Time unavailable_since = absl::InfiniteFuture();
  while (true) {
    grpc::ClientContext context;
    StreamWatch watch(policy.deadline, [&context] { context.TryCancel(); });
    const std::unique_ptr<grpc::ClientReader<Response>> reader = open(&context);
    Response response;
    absl::Status taken;
    bool any = false;
    const auto next = [&] {
      const StreamWatch::Wait wait(&watch);
      return reader->Read(&response);
    };
    while (taken.ok() && next()) {
      any = true;
      taken = take(response);
    }
    if (!taken.ok()) context.TryCancel();
    grpc::Status ended = reader->Finish();
    if (!taken.ok()) return taken;
    if (ended.ok()) return absl::OkStatus();
    if (watch.expired()) ended = grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "");
    const bool may_start_again = ended.error_code() == grpc::StatusCode::UNAVAILABLE && (!any || restartable);
    unavailable_since = std::min(unavailable_since, absl::Now());
    if (!may_start_again || absl::Now() - unavailable_since >= policy.shard_wait) return FinalStatus(shard, policy, ended);
    absl::SleepFor(kBackoff);
  }
}

// What the answers to FetchCenters and ReadRows share, and what only one of them has.
const v1::Matrix& SlotsOf(const v1::ReadRowsResponse& response) { return response.slots(); }
const v1::Matrix& SlotsOf(const v1::FetchCentersResponse&) { return v1::Matrix::default_instance(); }

void CopyRow(const at::Tensor& from, int64_t row, at::Tensor* to, int64_t position) {
  const int64_t cols = from.size(1);
  std::copy_n(from.const_data_ptr<float>() + row * cols, cols, to->data_ptr<float>() + position * cols);
}

absl::Status Malformed(const ShardClient& shard, const std::string& what) {
  return absl::InternalError(absl::StrCat(shard.Name(), ": answered ", what));
}

void CallWriteRows(ShardClient& shard, grpc::ClientContext* rpc, const v1::WriteRowsRequest* request, v1::WriteRowsResponse* response,
                   PendingCalls::Done done) {
  shard.admin().async()->WriteRows(rpc, request, response, std::move(done));
}

}  // namespace

RowTransfer::RowTransfer(const HeadSpec& head, std::vector<ShardClient*> shards, const CallPolicy& policy)
    : head_(head), partitions_(head.class_count, head.seed, head.partition_count), shards_(std::move(shards)), policy_(policy) {}

absl::StatusOr<std::vector<std::vector<int64_t>>> RowTransfer::Route(absl::Span<const int64_t> class_ids) const {
  std::vector<std::vector<int64_t>> positions(shards_.size());
  for (size_t i = 0; i < class_ids.size(); ++i) {
    if (class_ids[i] < 0 || class_ids[i] >= head_.class_count) {
      return absl::InvalidArgumentError(
          absl::StrCat("class ", class_ids[i], " is outside [0, ", head_.class_count, ") of head '", head_.name, "'"));
    }
    positions[partitions_.ShardOfClass(class_ids[i], static_cast<int>(shards_.size()))].push_back(i);
  }
  for (std::vector<int64_t>& shard_positions : positions) {
    std::stable_sort(shard_positions.begin(), shard_positions.end(), [&](int64_t a, int64_t b) { return class_ids[a] < class_ids[b]; });
  }
  return positions;
}

absl::StatusOr<at::Tensor> RowTransfer::Fetch(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) const {
  absl::StatusOr<Rows> rows = FetchRows(class_ids, /*with_slots=*/false);
  if (!rows.ok()) return rows.status();
  if (exists != nullptr) *exists = std::move(rows->exists);
  return std::move(rows->weights);
}

absl::StatusOr<RowTransfer::Rows> RowTransfer::FetchRows(absl::Span<const int64_t> class_ids, bool with_slots) const {
  absl::StatusOr<std::vector<std::vector<int64_t>>> positions = Route(class_ids);
  if (!positions.ok()) return positions.status();
  const int64_t count = static_cast<int64_t>(class_ids.size());
  Rows rows;
  rows.weights = at::empty({count, head_.embedding_dim}, at::kFloat);
  rows.slots = at::empty({with_slots ? count : 0, SlotNumbers(head_)}, at::kFloat);
  rows.exists.assign(class_ids.size(), false);
  for (size_t k = 0; k < shards_.size(); ++k) {
    absl::Span<const int64_t> rest = (*positions)[k];
    while (!rest.empty()) {
      // A class asked for twice stays in one request.
      size_t part = std::min<size_t>(rest.size(), kIdsPerFetch);
      while (part < rest.size() && class_ids[rest[part]] == class_ids[rest[part - 1]]) ++part;
      absl::Status status = FetchFromShard(*shards_[k], class_ids, rest.first(part), with_slots, &rows);
      if (!status.ok()) return status;
      rest.remove_prefix(part);
    }
  }
  return rows;
}

absl::Status RowTransfer::FetchFromShard(ShardClient& shard, absl::Span<const int64_t> class_ids, absl::Span<const int64_t> positions,
                                         bool with_slots, Rows* rows) const {
  std::vector<int64_t> wanted;
  for (int64_t position : positions) {
    if (wanted.empty() || wanted.back() != class_ids[position]) wanted.push_back(class_ids[position]);
  }
  size_t next = 0;  // In `positions`.
  const auto take = [&](const auto& response) -> absl::Status {
    absl::StatusOr<std::vector<int64_t>> ids = DecodeArray<int64_t>(response.class_ids(), "class_ids");
    if (!ids.ok()) return Malformed(shard, std::string(ids.status().message()));
    absl::StatusOr<at::Tensor> weights = ViewMatrix(response.centers(), head_.embedding_dim, "centers");
    if (!weights.ok()) return Malformed(shard, std::string(weights.status().message()));
    absl::StatusOr<at::Tensor> slots = ViewMatrix(SlotsOf(response), SlotNumbers(head_), "slots");
    if (!slots.ok()) return Malformed(shard, std::string(slots.status().message()));
    const int64_t count = static_cast<int64_t>(ids->size());
    if (weights->size(0) != count || slots->size(0) != (with_slots ? count : 0) || response.exists().size() != ids->size()) {
      return Malformed(shard, absl::StrCat(weights->size(0), " centers, ", slots->size(0), " rows of slots and ", response.exists().size(),
                                           " flags for ", count, " classes"));
    }
    for (int64_t j = 0; j < count; ++j) {
      if (next == positions.size() || class_ids[positions[next]] != (*ids)[j]) {
        return Malformed(shard, absl::StrCat("class ", (*ids)[j], ", which is not next in the request"));
      }
      for (; next < positions.size() && class_ids[positions[next]] == (*ids)[j]; ++next) {
        CopyRow(*weights, j, &rows->weights, positions[next]);
        if (with_slots) CopyRow(*slots, j, &rows->slots, positions[next]);
        rows->exists[positions[next]] = response.exists()[j] != 0;
      }
    }
    return absl::OkStatus();
  };
  absl::Status status;
  if (with_slots) {
    v1::ReadRowsRequest request;
    request.set_head(head_.name);
    request.set_with_slots(true);
    request.set_class_ids(EncodeArray<int64_t>(wanted));
    const auto open = [&](grpc::ClientContext* context) {
      next = 0;
      return shard.admin().ReadRows(context, request);
    };
    status = ReadStream<v1::ReadRowsResponse>(shard, policy_, /*restartable=*/true, open, take);
  } else {
    v1::FetchCentersRequest request;
    request.set_head(head_.name);
    request.set_class_ids(EncodeArray<int64_t>(wanted));
    const auto open = [&](grpc::ClientContext* context) {
      next = 0;
      return shard.centers().FetchCenters(context, request);
    };
    status = ReadStream<v1::FetchCentersResponse>(shard, policy_, /*restartable=*/true, open, take);
  }
  if (!status.ok()) return status;
  return next == positions.size() ? absl::OkStatus() : Malformed(shard, absl::StrCat("only ", next, " of ", positions.size(), " centers"));
}

absl::Status RowTransfer::Read(bool with_slots, const HeadClient::RowVisitor& visitor) const {
  int64_t first_steps = -1;
  const ShardClient* first_shard = nullptr;
  for (size_t k = 0; k < shards_.size(); ++k) {
    int64_t steps = -1;
    const absl::Status status = ReadShard(static_cast<int>(k), with_slots, [&](const RowBatch& batch) {
      steps = batch.committed_steps;
      return visitor(batch);
    });
    if (!status.ok()) return status;
    if (steps < 0) continue;  // No row: nothing to be at odds with.
    if (first_shard == nullptr) {
      first_shard = shards_[k];
      first_steps = steps;
    } else if (steps != first_steps) {
      return absl::FailedPreconditionError(absl::StrCat(shards_[k]->Name(), ": stands at step ", steps, ", but ", first_shard->Name(),
                                                        " at step ", first_steps, ": rows cannot be read while a run goes on"));
    }
  }
  return absl::OkStatus();
}

absl::Status RowTransfer::ReadShard(int index, bool with_slots, const HeadClient::RowVisitor& visitor) const {
  ShardClient& shard = *shards_[index];
  v1::ReadRowsRequest request;
  request.set_head(head_.name);
  request.set_with_slots(with_slots);
  const auto open = [&](grpc::ClientContext* context) { return shard.admin().ReadRows(context, request); };
  const auto take = [&](const v1::ReadRowsResponse& response) -> absl::Status {
    absl::StatusOr<std::vector<int64_t>> ids = DecodeArray<int64_t>(response.class_ids(), "class_ids");
    if (!ids.ok()) return Malformed(shard, std::string(ids.status().message()));
    absl::StatusOr<at::Tensor> weights = ViewMatrix(response.centers(), head_.embedding_dim, "centers");
    if (!weights.ok()) return Malformed(shard, std::string(weights.status().message()));
    absl::StatusOr<at::Tensor> slots = ViewMatrix(response.slots(), SlotNumbers(head_), "slots");
    if (!slots.ok()) return Malformed(shard, std::string(slots.status().message()));
    const int64_t rows = ids->size();
    if (weights->size(0) != rows || slots->size(0) != (with_slots ? rows : 0)) {
      return Malformed(shard, absl::StrCat(weights->size(0), " centers and ", slots->size(0), " rows of slots for ", rows, " classes"));
    }
    return visitor({index, *ids, *weights, *slots, response.committed_steps(), response.row_count()});
  };
  return ReadStream<v1::ReadRowsResponse>(shard, policy_, /*restartable=*/false, open, take);
}

absl::Status RowTransfer::Write(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) const {
  const int64_t rows = class_ids.size();
  const int64_t slot_width = SlotNumbers(head_);
  const auto fits = [rows](const at::Tensor& t, int64_t cols) {
    return t.dim() == 2 && t.size(0) == rows && t.size(1) == cols && t.scalar_type() == at::kFloat && t.device().is_cpu();
  };
  if (!weights.defined() || !fits(weights, head_.embedding_dim)) {
    return absl::InvalidArgumentError(absl::StrCat("weights are not a ", rows, " x ", head_.embedding_dim, " float32 CPU tensor"));
  }
  if (slots.defined() && !fits(slots, slot_width)) {
    return absl::InvalidArgumentError(absl::StrCat("slots are not a ", rows, " x ", slot_width, " float32 CPU tensor"));
  }
  absl::StatusOr<std::vector<std::vector<int64_t>>> positions = Route(class_ids);
  if (!positions.ok()) return positions.status();
  for (const std::vector<int64_t>& of_shard : *positions) {
    for (size_t i = 1; i < of_shard.size(); ++i) {
      if (class_ids[of_shard[i]] == class_ids[of_shard[i - 1]]) {
        return absl::InvalidArgumentError(absl::StrCat("class ", class_ids[of_shard[i]], " is given twice"));
      }
    }
  }
  const int64_t rows_per_request = std::max<int64_t>(1, kBytesPerWrite / (head_.embedding_dim * static_cast<int64_t>(sizeof(float))));
  // One request to each shard at a time, all shards at once.
  for (int64_t begin = 0;; begin += rows_per_request) {
    std::vector<v1::WriteRowsRequest> requests(shards_.size());
    ShardCalls<v1::WriteRowsRequest, v1::WriteRowsResponse> calls(CallWriteRows, policy_);
    for (size_t k = 0; k < shards_.size(); ++k) {
      const int64_t left = static_cast<int64_t>((*positions)[k].size()) - begin;
      if (left <= 0) continue;
      const absl::Span<const int64_t> part = absl::MakeConstSpan((*positions)[k]).subspan(begin, rows_per_request);
      std::vector<int64_t> ids;
      for (int64_t position : part) ids.push_back(class_ids[position]);
      const at::Tensor index = at::from_blob(const_cast<int64_t*>(part.data()), {static_cast<int64_t>(part.size())}, at::kLong);
      requests[k].set_head(head_.name);
      requests[k].set_class_ids(EncodeArray<int64_t>(ids));
      EncodeMatrix(weights.index_select(0, index), DataType::kFloat32, requests[k].mutable_centers());
      if (slots.defined()) EncodeMatrix(slots.index_select(0, index), DataType::kFloat32, requests[k].mutable_slots());
      calls.Start(shards_[k], &requests[k]);
    }
    if (calls.size() == 0) return absl::OkStatus();
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
  }
}

absl::Status RowTransfer::MakeDurable() const {
  v1::WriteRowsRequest no_rows;
  no_rows.set_head(head_.name);
  ShardCalls<v1::WriteRowsRequest, v1::WriteRowsResponse> calls(CallWriteRows, policy_);
  for (ShardClient* shard : shards_) calls.Start(shard, &no_rows);
  return calls.Wait();
}

}  // namespace myriad
