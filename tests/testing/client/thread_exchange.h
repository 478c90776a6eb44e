#ifndef MYRIAD_TESTS_TESTING_CLIENT_THREAD_EXCHANGE_H_
#define MYRIAD_TESTS_TESTING_CLIENT_THREAD_EXCHANGE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/head_client.h"

namespace myriad::testing {

// R ranks that are threads of one process: what c10d does for real ones. Each rank's exchange is used by one thread. A rank that does not
// come within a minute is DEADLINE_EXCEEDED for the others.
class ThreadExchangeGroup {
 public:
  explicit ThreadExchangeGroup(int rank_count);
  RankExchange* exchange(int rank) { return exchanges_[rank].get(); }

 private:
  class Exchange;
  // Every rank's tensor, once all have brought theirs.
  absl::StatusOr<std::vector<at::Tensor>> Swap(int rank, const at::Tensor& mine);

  std::vector<std::unique_ptr<RankExchange>> exchanges_;
  absl::Mutex mu_;
  std::vector<at::Tensor> brought_ ABSL_GUARDED_BY(mu_);
  int arrived_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t round_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<at::Tensor> last_round_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad::testing

#endif  // MYRIAD_TESTS_TESTING_CLIENT_THREAD_EXCHANGE_H_
