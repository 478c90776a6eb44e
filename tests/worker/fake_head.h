#ifndef MYRIAD_TESTS_WORKER_FAKE_HEAD_H_
#define MYRIAD_TESTS_WORKER_FAKE_HEAD_H_

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "client/head_client.h"

namespace myriad {

// A head of one rank in this process: all of W, CosFace over all classes by autograd, SGD without momentum. Too simple to be wrong.
class FakeHead : public HeadClient {
 public:
  FakeHead(int64_t class_count, int embedding_dim, uint64_t seed);

  absl::Status WaitForShards(absl::Duration) override { return absl::OkStatus(); }
  absl::StatusOr<HeadOnShards> Describe() override { return HeadOnShards(); }
  absl::StatusOr<int64_t> MintIncarnation() override { return 1; }
  absl::StatusOr<int64_t> Open(int64_t) override { return next_step_; }
  // Steps must come in order, and chunks within them; else FAILED_PRECONDITION. `fail_with`, if not OK, is returned instead.
  absl::StatusOr<StepResult> Step(const StepInput& input) override;
  absl::StatusOr<at::Tensor> FetchCenters(absl::Span<const int64_t> class_ids, std::vector<bool>* exists) override;
  absl::Status ReadRows(bool with_slots, const RowVisitor& visitor) override;
  absl::Status WriteRows(absl::Span<const int64_t> class_ids, const at::Tensor& weights, const at::Tensor& slots) override;

  const at::Tensor& weights() const { return weights_; }
  int64_t next_step() const { return next_step_; }
  const std::vector<double>& learning_rates() const { return learning_rates_; }

  absl::Status fail_with = absl::OkStatus();
  std::function<void(const StepInput&)> on_step;  // If set, called first.

 private:
  at::Tensor weights_;
  at::Tensor gradient_;  // Of the step's chunks so far.
  int64_t next_step_ = 0;
  int next_chunk_ = 0;
  int64_t step_samples_ = 0;
  std::vector<double> learning_rates_;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_WORKER_FAKE_HEAD_H_
