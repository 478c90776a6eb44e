#include "client/head_saves.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/shard_calls.h"
#include "client/shard_client.h"
#include "proto/wire/head_codec.h"

namespace myriad {
namespace {

// A shard may have to write all that its memory holds. One that is gone is noticed by its silence, long before.
constexpr absl::Duration kSaveDeadline = absl::Hours(12);

class ShardHeadSaves : public HeadSaves {
 public:
  ShardHeadSaves(const HeadSpec& head, const std::vector<std::string>& addresses, absl::Duration patience) : head_(head) {
    for (size_t k = 0; k < addresses.size(); ++k) shards_.push_back(std::make_unique<ShardClient>(static_cast<int>(k), addresses[k]));
    policy_.deadline = kSaveDeadline;
    policy_.shard_wait = patience;
  }

  absl::Status CheckPossible() override {
    ShardCalls<v1::ListSavesRequest, v1::ListSavesResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::ListSavesRequest* request, v1::ListSavesResponse* response,
           PendingCalls::Done done) { shard.admin().async()->ListSaves(rpc, request, response, std::move(done)); },
        policy_);
    return CallAll(v1::ListSavesRequest(), &calls);
  }

  absl::Status Save(int64_t incarnation, int64_t step, const std::string& save) override {
    v1::SaveHeadRequest request;
    request.set_head(head_.name);
    request.set_incarnation(incarnation);
    request.set_step(step);
    request.set_save(save);
    ShardCalls<v1::SaveHeadRequest, v1::SaveHeadResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::SaveHeadRequest* request, v1::SaveHeadResponse* response,
           PendingCalls::Done done) { shard.admin().async()->SaveHead(rpc, request, response, std::move(done)); },
        policy_);
    return CallAll(request, &calls);
  }

  absl::StatusOr<int64_t> Restore(const std::string& save) override {
    CallPolicy policy = policy_;
    policy.lost_code = absl::StatusCode::kUnavailable;
    std::vector<v1::RestoreHeadRequest> requests(shards_.size());
    ShardCalls<v1::RestoreHeadRequest, v1::RestoreHeadResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::RestoreHeadRequest* request, v1::RestoreHeadResponse* response,
           PendingCalls::Done done) { shard.admin().async()->RestoreHead(rpc, request, response, std::move(done)); },
        policy);
    for (size_t k = 0; k < shards_.size(); ++k) {
      *requests[k].mutable_head() = ToProto(head_);
      requests[k].set_shard_index(static_cast<int32_t>(k));
      requests[k].set_shard_count(static_cast<int32_t>(shards_.size()));
      requests[k].set_save(save);
      calls.Start(shards_[k].get(), &requests[k]);
    }
    if (absl::Status status = calls.Wait(); !status.ok()) return status;
    const int64_t committed = calls.response(0).committed_steps();
    for (size_t k = 1; k < calls.size(); ++k) {
      if (calls.response(k).committed_steps() == committed) continue;
      return absl::DataLossError(absl::StrCat(shards_[k]->Name(), ": save ", save, " of head '", head_.name, "' is of step ",
                                              calls.response(k).committed_steps(), ", that of ", shards_[0]->Name(), " of step ",
                                              committed));
    }
    return committed;
  }

  absl::Status Drop(const std::string& save) override {
    v1::DropSaveRequest request;
    request.set_head(head_.name);
    request.set_save(save);
    ShardCalls<v1::DropSaveRequest, v1::DropSaveResponse> calls(
        [](ShardClient& shard, grpc::ClientContext* rpc, const v1::DropSaveRequest* request, v1::DropSaveResponse* response,
           PendingCalls::Done done) { shard.admin().async()->DropSave(rpc, request, response, std::move(done)); },
        policy_);
    return CallAll(request, &calls);
  }

 private:
  template <typename Request, typename Response>
  absl::Status CallAll(const Request& request, ShardCalls<Request, Response>* calls) {
    for (const std::unique_ptr<ShardClient>& shard : shards_) calls->Start(shard.get(), &request);
    return calls->Wait();
  }

  const HeadSpec head_;
  std::vector<std::unique_ptr<ShardClient>> shards_;
  CallPolicy policy_;
};

}  // namespace

std::unique_ptr<HeadSaves> MakeHeadSaves(const HeadSpec& head, const std::vector<std::string>& addresses, absl::Duration patience) {
  return std::make_unique<ShardHeadSaves>(head, addresses, patience);
}

}  // namespace myriad
