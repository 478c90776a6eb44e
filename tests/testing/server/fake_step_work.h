#ifndef MYRIAD_TESTS_TESTING_SERVER_FAKE_STEP_WORK_H_
#define MYRIAD_TESTS_TESTING_SERVER_FAKE_STEP_WORK_H_

#include <functional>
#include <memory>
#include <vector>

#include "server/step/step_work.h"

namespace myriad {

// A step without mathematics: writes down what the engine does with it.
struct FakeStepLog {
  std::vector<int64_t> moved;  // Steps whose rows have moved, in order.
  int computed = 0;
  int abandoned = 0;
  int released = 0;
  bool holds_rows = false;  // Between the first Compute() and the end of a step.
  // What Compute() and Settle() answer; OK when empty.
  std::function<absl::Status(const StepWork::Phase&)> compute;
  std::function<absl::Status()> settle;
};

class FakeStepWork : public StepWork {
 public:
  explicit FakeStepWork(std::shared_ptr<FakeStepLog> log) : log_(std::move(log)) {}

  bool Votes(int, int) const override { return true; }
  int ChunkOf(int phase) const override { return phase; }
  int AgreedPhase(int phase) const override { return phase; }
  absl::StatusOr<Share> Compute(const Phase& phase) override {
    ++log_->computed;
    step_ = phase.step;
    ranks_ = phase.parts.size();
    log_->holds_rows = true;
    if (log_->compute) {
      if (absl::Status status = log_->compute(phase); !status.ok()) return status;
    }
    return Share();
  }
  absl::StatusOr<std::vector<RankReply>> Reply(const std::shared_ptr<const MergedDenominators>&, double) override {
    HeadStepReply reply;
    reply.statistics.loss = log_->computed;  // Tells a computed reply from a repeated one.
    return std::vector<RankReply>(ranks_, reply);
  }
  absl::Status Settle(bool last) override {
    if (log_->settle) {
      if (absl::Status status = log_->settle(); !status.ok()) return status;
    }
    if (last) {
      log_->moved.push_back(step_);
      log_->holds_rows = false;
    }
    return absl::OkStatus();
  }
  void Abandon() override {
    ++log_->abandoned;
    log_->holds_rows = false;
  }
  void Release() override { ++log_->released; }

 private:
  const std::shared_ptr<FakeStepLog> log_;
  int64_t step_ = 0;
  size_t ranks_ = 0;
};

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_FAKE_STEP_WORK_H_
