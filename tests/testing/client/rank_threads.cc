#include "tests/testing/client/rank_threads.h"

#include <thread>
#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"

namespace myriad::testing {

at::Tensor RankThreads::Batch::all_embeddings() const { return at::cat(embeddings); }

std::vector<int64_t> RankThreads::Batch::all_labels() const {
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& of_rank : labels) all.insert(all.end(), of_rank.begin(), of_rank.end());
  return all;
}

absl::StatusOr<std::unique_ptr<RankThreads>> RankThreads::Open(HeadClient::Options options, int rank_count) {
  std::unique_ptr<RankThreads> ranks(new RankThreads());
  ranks->exchanges_ = std::make_unique<ThreadExchangeGroup>(rank_count);
  options.rank_count = rank_count;
  for (int r = 0; r < rank_count; ++r) {
    options.rank = r;
    options.exchange = ranks->exchanges_->exchange(r);
    absl::StatusOr<std::unique_ptr<HeadClient>> client = HeadClient::Create(options);
    if (!client.ok()) return client.status();
    ranks->clients_.push_back(*std::move(client));
  }
  absl::StatusOr<int64_t> incarnation = ranks->clients_[0]->MintIncarnation();
  if (!incarnation.ok()) return incarnation.status();
  std::vector<absl::StatusOr<int64_t>> opened(rank_count, absl::UnknownError("not opened"));
  ranks->ForAll([&](int r) { opened[r] = ranks->clients_[r]->Open(*incarnation); });
  for (int r = 0; r < rank_count; ++r) {
    if (!opened[r].ok()) return opened[r].status();
    if (*opened[r] != *opened[0]) {
      return absl::InternalError(absl::StrCat("rank ", r, " opened the head at step ", *opened[r], ", rank 0 at step ", *opened[0]));
    }
  }
  ranks->first_step_ = *opened[0];
  return ranks;
}

void RankThreads::ForAll(const std::function<void(int rank)>& body) {
  std::vector<std::thread> threads;
  for (int r = 0; r < rank_count(); ++r) threads.emplace_back([&body, r] { body(r); });
  for (std::thread& thread : threads) thread.join();
}

std::vector<absl::StatusOr<StepResult>> RankThreads::Step(int64_t step, double learning_rate, const Batch& batch, bool evaluate) {
  std::vector<absl::StatusOr<StepResult>> results(rank_count(), absl::UnknownError("not run"));
  ForAll([&](int r) {
    StepInput input;
    input.step = step;
    input.evaluate = evaluate;
    input.learning_rate = learning_rate;
    input.embeddings = batch.embeddings[r];
    input.labels = batch.labels[r];
    results[r] = clients_[r]->Step(input);
  });
  return results;
}

absl::StatusOr<std::map<int64_t, RankThreads::Row>> RankThreads::ReadRows() {
  std::map<int64_t, Row> rows;
  absl::Status status = clients_[0]->ReadRows(
      /*with_slots=*/true, [&](const RowBatch& batch) {
        const int64_t dim = batch.weights.size(1);
        const int64_t slot_width = batch.slots.size(1);
        for (size_t j = 0; j < batch.class_ids.size(); ++j) {
          const float* const w = batch.weights.const_data_ptr<float>() + j * dim;
          const float* const s = batch.slots.const_data_ptr<float>() + j * slot_width;
          const bool fresh = rows.emplace(batch.class_ids[j], Row{{w, w + dim}, {s, s + slot_width}}).second;
          if (!fresh) return absl::InternalError(absl::StrCat("class ", batch.class_ids[j], " was read twice"));
        }
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return rows;
}

}  // namespace myriad::testing
