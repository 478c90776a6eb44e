#ifndef MYRIAD_CLIENT_SHARD_CALLS_H_
#define MYRIAD_CLIENT_SHARD_CALLS_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/shard_client.h"

namespace myriad {

// How long calls may take, and when a shard that cannot be reached counts as lost.
struct CallPolicy {
  absl::Duration deadline = absl::Seconds(45);    // Of one RPC.
  absl::Duration shard_wait = absl::Seconds(10);  // UNAVAILABLE is retried with backoff this long.
  absl::StatusCode lost_code = absl::StatusCode::kDataLoss;
};

// What a call to `shard` that has ended with `status` comes to once it is not tried again. It starts with the shard's name. The shard is
// lost, `lost_code`, where the transport reached none for `shard_wait`, or no answer came within the deadline; what the shard itself
// answered, UNAVAILABLE (its disk) among it, stays what it is.
absl::Status FinalStatus(const ShardClient& shard, const CallPolicy& policy, const grpc::Status& status);

// Calls in flight to several shards at once, without a thread each. What every method has in common; ShardCalls<> adds the types.
// Thread-compatible: one thread starts, waits and destroys.
//
// UNAVAILABLE is retried with backoff for `shard_wait`; then, or past the deadline, FinalStatus() says what it was.
class PendingCalls {
 public:
  using Done = std::function<void(grpc::Status)>;
  // Issues the RPC; `done` comes once, on any thread, maybe before this returns. `attempt` of the same call again after UNAVAILABLE.
  using Issue = std::function<void(grpc::ClientContext* context, Done done)>;

  explicit PendingCalls(const CallPolicy& policy);
  // Cancels what is in flight and waits until gRPC has let go of it.
  ~PendingCalls();

  // Starts a call. `shard` and what `issue` refers to must outlive this object.
  void Start(const ShardClient* shard, Issue issue);

  // Waits until all calls have ended, retrying. Each status starts with the shard's name.
  // * All OK: OK.
  // * ABORTED, everything else OK: ABORTED after all have ended, with the highest next_attempt of all of them.
  // * Any other error: that error at once; the rest is cancelled.
  absl::Status Wait();

  // Cancels what is in flight; Wait() and the destructor then return soon.
  void Cancel();

 private:
  struct Call {
    const ShardClient* shard = nullptr;
    Issue issue;
    std::unique_ptr<grpc::ClientContext> context;
    absl::Time unavailable_since = absl::InfiniteFuture();
    absl::Time retry_at = absl::InfiniteFuture();  // Finite while it waits for its next try.
    absl::Duration backoff;
    absl::Status status;
    bool decided = false;  // `status` is final.
  };
  // What the callbacks touch; they may outlive this object by an instant.
  struct Arrivals {
    absl::Mutex mu;
    std::deque<std::pair<size_t, grpc::Status>> ended ABSL_GUARDED_BY(mu);
  };

  void IssueNow(size_t index);
  void HandleEnd(size_t index, const grpc::Status& status);
  // Takes what has ended, waiting for at most `until` for the first.
  void TakeArrivals(absl::Time until);
  absl::Status Outcome() const;

  const CallPolicy policy_;
  const std::shared_ptr<Arrivals> arrivals_;
  std::deque<Call> calls_;
  size_t in_flight_ = 0;
  bool cancelled_ = false;
  absl::Status fatal_;
};

// One unary method called on several shards at once. Requests are borrowed and may be shared by all shards.
template <typename Request, typename Response>
class ShardCalls {
 public:
  using Method = void (*)(ShardClient& shard, grpc::ClientContext* context, const Request* request, Response* response,
                          PendingCalls::Done done);

  ShardCalls(Method method, const CallPolicy& policy) : method_(method), calls_(policy) {}

  // `shard` and `request` must outlive this object.
  void Start(ShardClient* shard, const Request* request) {
    responses_.emplace_back();
    Response* const response = &responses_.back();
    requests_.push_back(request);
    calls_.Start(shard, [method = method_, shard, request, response](grpc::ClientContext* context, PendingCalls::Done done) {
      response->Clear();
      method(*shard, context, request, response, std::move(done));
    });
  }
  // As PendingCalls::Wait.
  absl::Status Wait() { return calls_.Wait(); }

  // Responses in the order of Start; valid after Wait() was OK.
  size_t size() const { return responses_.size(); }
  const Response& response(size_t index) const { return responses_[index]; }

  // Bytes of the messages of this group: requests sent and responses received, each with its gRPC prefix of 5 bytes. A retried request is
  // counted once.
  int64_t WireBytes() const {
    constexpr int64_t kPrefixBytes = 5;
    int64_t bytes = 0;
    for (size_t i = 0; i < size(); ++i) {
      bytes += static_cast<int64_t>(requests_[i]->ByteSizeLong() + responses_[i].ByteSizeLong()) + 2 * kPrefixBytes;
    }
    return bytes;
  }

 private:
  const Method method_;
  std::deque<Response> responses_;  // Before calls_, which must let go of them first.
  std::vector<const Request*> requests_;
  PendingCalls calls_;
};

}  // namespace myriad

#endif  // MYRIAD_CLIENT_SHARD_CALLS_H_
