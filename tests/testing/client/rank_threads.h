#ifndef MYRIAD_TESTS_TESTING_CLIENT_RANK_THREADS_H_
#define MYRIAD_TESTS_TESTING_CLIENT_RANK_THREADS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "client/head_client.h"
#include "tests/testing/client/thread_exchange.h"

namespace myriad::testing {

// The ranks of a run as threads of this process, each with a HeadClient of its own: the shipped path without processes.
class RankThreads {
 public:
  // What the ranks bring to a step: embeddings[r] (B_r x D) and labels[r].
  struct Batch {
    std::vector<at::Tensor> embeddings;
    std::vector<std::vector<int64_t>> labels;
    // In rank order.
    at::Tensor all_embeddings() const;
    std::vector<int64_t> all_labels() const;
  };

  // Makes the clients (rank, rank count and exchange are filled in), mints an incarnation and opens the head on all of them.
  static absl::StatusOr<std::unique_ptr<RankThreads>> Open(HeadClient::Options options, int rank_count);

  int rank_count() const { return static_cast<int>(clients_.size()); }
  HeadClient& client(int rank) { return *clients_[rank]; }
  // Steps that the head had committed when it was opened.
  int64_t first_step() const { return first_step_; }

  // One step of all ranks at once. Results in rank order.
  std::vector<absl::StatusOr<StepResult>> Step(int64_t step, double learning_rate, const Batch& batch, bool evaluate = false);
  // Calls body(r) for all ranks at once, each in a thread.
  void ForAll(const std::function<void(int rank)>& body);

  // All rows that exist: weights and slots of each class.
  struct Row {
    std::vector<float> weights;
    std::vector<float> slots;
  };
  absl::StatusOr<std::map<int64_t, Row>> ReadRows();

 private:
  RankThreads() = default;

  std::unique_ptr<ThreadExchangeGroup> exchanges_;
  std::vector<std::unique_ptr<HeadClient>> clients_;
  int64_t first_step_ = 0;
};

}  // namespace myriad::testing

#endif  // MYRIAD_TESTS_TESTING_CLIENT_RANK_THREADS_H_
