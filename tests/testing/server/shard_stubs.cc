#include "tests/testing/server/shard_stubs.h"

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <random>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/wire/status.h"

namespace myriad {
namespace {

void SetDeadline(grpc::ClientContext* context) { context->set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1))); }

template <typename Message>
absl::StatusOr<std::vector<Message>> Collect(std::unique_ptr<grpc::ClientReader<Message>> reader) {
  std::vector<Message> messages;
  Message message;
  while (reader->Read(&message)) messages.push_back(std::move(message));
  const absl::Status status = FromGrpcStatus(reader->Finish());
  if (!status.ok()) return status;
  return messages;
}

}  // namespace

ShardStubs::ShardStubs(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  centers_ = v1::CenterShard::NewStub(channel);
  admin_ = v1::ShardAdmin::NewStub(channel);
  peer_ = v1::ShardPeer::NewStub(channel);
}

absl::StatusOr<v1::OpenHeadResponse> ShardStubs::Open(const v1::OpenHeadRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::OpenHeadResponse response;
  const absl::Status status = FromGrpcStatus(centers_->OpenHead(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::HeadStepResponse> ShardStubs::Step(const v1::HeadStepRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::HeadStepResponse response;
  const absl::Status status = FromGrpcStatus(centers_->HeadStep(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

std::future<absl::StatusOr<v1::HeadStepResponse>> ShardStubs::StepAsync(const v1::HeadStepRequest& request) {
  return std::async(std::launch::async, [this, request] { return Step(request); });
}

absl::Status ShardStubs::Write(const v1::WriteRowsRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::WriteRowsResponse response;
  return FromGrpcStatus(admin_->WriteRows(&context, request, &response));
}

absl::StatusOr<std::vector<v1::FetchCentersResponse>> ShardStubs::Fetch(const v1::FetchCentersRequest& request) {
  grpc::ClientContext context;
  SetDeadline(&context);
  return Collect(centers_->FetchCenters(&context, request));
}

absl::StatusOr<std::vector<v1::ReadRowsResponse>> ShardStubs::ReadRows(const std::string& head, bool with_slots,
                                                                       absl::Span<const int64_t> class_ids) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ReadRowsRequest request;
  request.set_head(head);
  request.set_with_slots(with_slots);
  request.set_class_ids(PackIds(class_ids));
  return Collect(admin_->ReadRows(&context, request));
}

absl::StatusOr<v1::HeadInfo> ShardStubs::Info(const std::string& head) {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ListHeadsResponse response;
  const absl::Status status = FromGrpcStatus(centers_->ListHeads(&context, {}, &response));
  if (!status.ok()) return status;
  for (const v1::HeadInfo& info : response.heads()) {
    if (info.head().name() == head) return info;
  }
  return absl::NotFoundError(head);
}

v1::OpenHeadRequest MakeOpen(const std::string& name, int64_t class_count, int dim, const std::vector<std::string>& addresses, int shard,
                             int rank_count) {
  v1::OpenHeadRequest request;
  v1::HeadSpec* head = request.mutable_head();
  head->set_name(name);
  head->set_class_count(class_count);
  head->set_embedding_dim(dim);
  head->set_seed(3);
  head->set_initial_deviation(0.05);
  head->mutable_sgd_slots();
  v1::TrainingSpec* training = request.mutable_training();
  training->mutable_cosface()->set_margin(0.35);
  training->set_scale(16);
  training->mutable_all();
  training->mutable_sgd()->set_momentum(0.9);
  training->mutable_sgd()->set_weight_decay(5e-4);
  request.set_incarnation(1);
  request.set_shard_index(shard);
  for (const std::string& address : addresses) request.add_shard_addresses(address);
  request.set_rank_count(rank_count);
  return request;
}

v1::HeadStepRequest MakeStep(const v1::OpenHeadRequest& open, int64_t step, int rank, absl::Span<const int64_t> labels, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  const int dim = open.head().embedding_dim();
  std::vector<float> embeddings(labels.size() * dim);
  for (float& value : embeddings) value = normal(rng);
  v1::HeadStepRequest request;
  request.mutable_key()->set_head(open.head().name());
  request.mutable_key()->set_incarnation(open.incarnation());
  request.mutable_key()->set_step(step);
  request.set_rank(rank);
  request.set_mode(v1::STEP_MODE_TRAIN);
  request.mutable_parameters()->set_learning_rate(0.1);
  *request.mutable_embeddings() = PackMatrix(embeddings, labels.size(), dim);
  request.set_labels(PackIds(labels));
  return request;
}

std::string PackIds(absl::Span<const int64_t> ids) {
  return std::string(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t));
}

v1::Matrix PackMatrix(absl::Span<const float> data, int64_t rows, int64_t cols) {
  v1::Matrix matrix;
  matrix.set_dtype(v1::DATA_TYPE_FLOAT32);
  matrix.set_rows(rows);
  matrix.set_cols(cols);
  matrix.set_data(reinterpret_cast<const char*>(data.data()), data.size() * sizeof(float));
  return matrix;
}

}  // namespace myriad
