#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <map>
#include <utility>

#include <ATen/core/Tensor.h>
#include <grpcpp/client_context.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/head_source.h"
#include "client/row_transfer.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "proto/wire/head_codec.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

bool IsAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  return colon != std::string::npos && colon > 0 && absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 1 && port <= 65535;
}

class ShardSource : public HeadSource {
 public:
  ShardSource(const std::vector<std::string>& addresses, absl::Duration timeout, ClassCounts class_counts)
      : timeout_(timeout), class_counts_(class_counts) {
    for (const std::string& address : addresses) {
      shards_.push_back(std::make_unique<ShardClient>(static_cast<int>(shards_.size()), address));
    }
  }

  absl::StatusOr<std::vector<HeadSummary>> Heads() override {
    std::map<std::string, HeadSummary> heads;
    for (const std::unique_ptr<ShardClient>& shard : shards_) {
      absl::StatusOr<v1::ListHeadsResponse> listed = List(*shard);
      if (!listed.ok()) return listed.status();
      for (const v1::HeadInfo& info : listed->heads()) {
        if (absl::Status status = Add(shard->address(), info, &heads); !status.ok()) return Annotate(status, shard->address());
      }
    }
    std::vector<HeadSummary> result;
    for (auto& [name, head] : heads) {
      std::sort(head.shards.begin(), head.shards.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
      result.push_back(std::move(head));
    }
    if (result.empty()) return absl::NotFoundError("these shards have no head yet");
    return result;
  }

  absl::StatusOr<std::vector<Center>> FetchCenters(const HeadSummary& head, absl::Span<const int64_t> class_ids) override {
    try {
      return Fetch(head, class_ids);
    } catch (const std::exception& error) {  // LibTorch throws for want of memory.
      return absl::ResourceExhaustedError(absl::StrCat(class_ids.size(), " centers: ", error.what()));
    }
  }

 private:
  absl::StatusOr<std::vector<Center>> Fetch(const HeadSummary& head, absl::Span<const int64_t> class_ids) const {
    if (absl::Status status = CheckAllShards(head); !status.ok()) return status;
    // By their place in the head, not in the command.
    std::deque<ShardClient> clients;
    for (const HeadSummary::Shard& shard : head.shards) clients.emplace_back(shard.index, shard.address);
    std::vector<ShardClient*> shards;
    for (ShardClient& client : clients) shards.push_back(&client);
    CallPolicy policy;
    policy.deadline = timeout_;
    policy.shard_wait = absl::ZeroDuration();  // Whoever asks may ask again.
    policy.lost_code = absl::StatusCode::kUnavailable;
    std::vector<bool> exists;
    const absl::StatusOr<at::Tensor> values = RowTransfer(head.spec, shards, policy).Fetch(class_ids, &exists);
    if (!values.ok()) return values.status();
    std::vector<Center> centers;
    const float* data = values->const_data_ptr<float>();
    for (size_t i = 0; i < class_ids.size(); ++i) {
      const float* row = data + i * head.spec.embedding_dim;
      centers.push_back({class_ids[i], exists[i], std::vector<float>(row, row + head.spec.embedding_dim)});
    }
    return centers;
  }

  absl::StatusOr<v1::ListHeadsResponse> List(ShardClient& shard) const {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout_));
    v1::ListHeadsResponse response;
    const grpc::Status status = shard.centers().ListHeads(&context, v1::ListHeadsRequest(), &response);
    if (status.ok()) return response;
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE || status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return absl::UnavailableError(
          absl::StrCat(shard.address(), " does not answer (waited up to ", absl::FormatDuration(timeout_), "): ", status.error_message()));
    }
    return Annotate(FromGrpcStatus(status), shard.address());
  }

  // Adds what one shard says to what is known of the head.
  absl::Status Add(const std::string& address, const v1::HeadInfo& info, std::map<std::string, HeadSummary>* heads) const {
    const absl::StatusOr<HeadSpec> spec = ParseHeadSpec(info.head());
    if (!spec.ok()) return spec.status();
    const auto [found, is_new] = heads->try_emplace(spec->name);
    HeadSummary& head = found->second;
    if (is_new) {
      head.spec = *spec;
      head.shard_count = info.shard_count();
      head.committed_steps = info.committed_steps();
    } else {
      const std::string& first = head.shards.front().address;
      HeadSpec expected = head.spec;
      if (class_counts_ == ClassCounts::kMayDiffer) expected.class_count = spec->class_count;
      if (absl::Status status = CheckSame(expected, first, *spec, address); !status.ok()) return status;
      if (head.shard_count != info.shard_count()) {
        return absl::FailedPreconditionError(
            absl::StrCat("it belongs to ", info.shard_count(), " shards of head ", spec->name, ", ", first, " to ", head.shard_count));
      }
    }
    for (const HeadSummary::Shard& shard : head.shards) {
      if (shard.index == info.shard_index()) {
        return absl::FailedPreconditionError(absl::StrCat("it is shard ", shard.index, " of head ", spec->name, ", as is ", shard.address));
      }
    }
    if (info.has_training() && !head.training.has_value()) {
      const absl::StatusOr<TrainingSpec> training = ParseTrainingSpec(info.training(), *spec);
      if (!training.ok()) return training.status();
      head.training = *training;
    }
    head.incarnation = std::max(head.incarnation, info.incarnation());
    head.committed_steps = std::min(head.committed_steps, info.committed_steps());
    head.row_count += info.row_count();
    head.shards.push_back({address, info.shard_index(), info.row_count(), spec->class_count, info.committed_steps()});
    return absl::OkStatus();
  }

  std::vector<std::unique_ptr<ShardClient>> shards_;
  const absl::Duration timeout_;
  const ClassCounts class_counts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HeadSource>> OpenShardSource(const std::vector<std::string>& addresses, absl::Duration timeout,
                                                            ClassCounts class_counts) {
  if (addresses.empty()) return absl::InvalidArgumentError("no shard address; write host:port,host:port");
  for (const std::string& address : addresses) {
    if (!IsAddress(address)) return absl::InvalidArgumentError(absl::StrCat("'", address, "' is no shard address; write host:port"));
  }
  return std::unique_ptr<HeadSource>(std::make_unique<ShardSource>(addresses, timeout, class_counts));
}

}  // namespace myriad
