#include "tests/testing/client/thread_exchange.h"

#include <utility>

#include <ATen/Functions.h>

#include "absl/strings/str_cat.h"

namespace myriad::testing {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);

}  // namespace

class ThreadExchangeGroup::Exchange : public RankExchange {
 public:
  Exchange(ThreadExchangeGroup* group, int rank, int rank_count) : group_(group), rank_(rank), rank_count_(rank_count) {}
  int rank() const override { return rank_; }
  int rank_count() const override { return rank_count_; }

  absl::StatusOr<at::Tensor> AllGatherRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    absl::StatusOr<std::vector<at::Tensor>> all = group_->Swap(rank_, rows);
    if (!all.ok()) return all.status();
    for (int r = 0; r < rank_count_; ++r) {
      if ((*all)[r].size(0) != rank_sizes[r]) {
        return absl::InternalError(absl::StrCat("rank ", r, " brought ", (*all)[r].size(0), " rows, not ", rank_sizes[r]));
      }
    }
    return at::cat(*all);
  }

  absl::StatusOr<at::Tensor> ReduceScatterRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    absl::StatusOr<std::vector<at::Tensor>> all = group_->Swap(rank_, rows);
    if (!all.ok()) return all.status();
    at::Tensor sum = (*all)[0].clone();
    for (int r = 1; r < rank_count_; ++r) sum.add_((*all)[r]);
    int64_t first = 0;
    for (int r = 0; r < rank_; ++r) first += rank_sizes[r];
    return sum.narrow(0, first, rank_sizes[rank_]);
  }

 private:
  ThreadExchangeGroup* const group_;
  const int rank_;
  const int rank_count_;
};

ThreadExchangeGroup::ThreadExchangeGroup(int rank_count) : brought_(rank_count) {
  for (int r = 0; r < rank_count; ++r) exchanges_.push_back(std::make_unique<Exchange>(this, r, rank_count));
}

absl::StatusOr<std::vector<at::Tensor>> ThreadExchangeGroup::Swap(int rank, const at::Tensor& mine) {
  absl::MutexLock lock(&mu_);
  const int64_t round = round_;
  brought_[rank] = mine.clone();
  if (++arrived_ == static_cast<int>(brought_.size())) {
    // Nobody can bring a tensor of the next round before this one is complete, nor complete the next before all have left this one.
    arrived_ = 0;
    ++round_;
    last_round_ = brought_;
    return last_round_;
  }
  const auto complete = [this, round]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return round_ != round; };
  if (!mu_.AwaitWithTimeout(absl::Condition(&complete), kPatience)) {
    return absl::DeadlineExceededError(absl::StrCat("rank ", rank, " waited for ranks that did not come"));
  }
  return last_round_;
}

}  // namespace myriad::testing
