#ifndef MYRIAD_SERVER_SHARD_H_
#define MYRIAD_SERVER_SHARD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/head_shard.h"
#include "server/runtime/executor.h"
#include "server/runtime/timer.h"

namespace myriad {

// The heads that one server keeps its part of. Thread-safe.
class Shard {
 public:
  struct Options {
    int64_t max_rows = 0;  // Of each head; 0: no limit.
  };

  // `executor` and `timer` outlive the object.
  Shard(const Options& options, Executor* executor, Timer* timer, ConnectPeers connect)
      : options_(options), executor_(executor), timer_(timer), connect_(std::move(connect)) {}

  int64_t max_rows() const { return options_.max_rows; }
  Timer* timer() const { return timer_; }

  // The head, made with no row if it is not known. Errors: FAILED_PRECONDITION (another HeadSpec or place under that name),
  // RESOURCE_EXHAUSTED (too many heads).
  absl::StatusOr<std::shared_ptr<HeadShard>> FindOrCreate(const HeadSpec& head, int shard_index, int shard_count) ABSL_LOCKS_EXCLUDED(mu_);
  // DATA_LOSS if there is no such head here: this process has not opened it, or is not the one that did.
  absl::StatusOr<std::shared_ptr<HeadShard>> Find(const std::string& head) const ABSL_LOCKS_EXCLUDED(mu_);
  // In the order of names.
  std::vector<std::shared_ptr<HeadShard>> heads() const ABSL_LOCKS_EXCLUDED(mu_);

  // The server stops: every waiting call gets `reason`.
  void Shutdown(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const Options options_;
  Executor* const executor_;
  Timer* const timer_;
  const ConnectPeers connect_;

  mutable absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<HeadShard>> heads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_SHARD_H_
