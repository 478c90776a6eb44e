#ifndef MYRIAD_WORKER_COLLECTIVES_H_
#define MYRIAD_WORKER_COLLECTIVES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/head_client.h"
#include "worker/trace.h"

namespace myriad {

// Where this process stands in a run: torchrun's environment.
struct RankInfo {
  int rank = 0;
  int rank_count = 1;
  int local_rank = 0;
  std::string master_address = "127.0.0.1";
  int master_port = 29500;
  // The launcher's own store already listens at the master's port (torchrun); rank 0 then starts none.
  bool launcher_has_store = false;
  // An inherited socket that listens at the master's port already (`myriad train`): rank 0's store accepts there. -1: it opens one itself.
  int store_fd = -1;
  // Keeps the keys of a restarted run apart in such a store.
  std::string run_id;
};

// Runs backward passes and sums the gradients of the parameters over all ranks, in buckets, while backward is still running for the
// layers before. Thread-compatible; every rank makes the same calls in the same order.
class GradientReducer {
 public:
  virtual ~GradientReducer() = default;

  // Before the forward passes of a step: clears the gradients.
  virtual absl::Status BeginStep(int64_t step) = 0;

  // Adds d(outputs . gradients) to the parameters' gradients. With `reduce` (the last chunk of a step), returns when the gradients of all
  // ranks are summed (not averaged: dX is already divided by the whole batch). Every parameter must be part of `outputs`' graph.
  // Errors: a PeerLostError; INTERNAL or RESOURCE_EXHAUSTED for what LibTorch reports.
  virtual absl::Status Backward(const at::Tensor& outputs, const at::Tensor& gradients, bool reduce) = 0;
};

// The ranks of a run: c10d's TCPStore and ProcessGroupGloo (CPU tensors) or ProcessGroupNCCL (CUDA tensors). With one rank nothing is
// opened and every call is a no-op. Every rank calls the same methods in the same order, from one thread.
// A call that the other ranks did not answer returns a PeerLostError: c10d cannot tell a peer that broke from one that left. What fails for
// another reason (memory, shapes) is INTERNAL or RESOURCE_EXHAUSTED.
class Collectives : public RankExchange {
 public:
  struct Options {
    RankInfo rank;
    at::Device device = at::kCPU;
    absl::Duration start_timeout = absl::Seconds(120);  // For all ranks to come.
    absl::Duration peer_patience = absl::Seconds(30);   // A peer without a sign of life for so long is lost.
    // Called once, from another thread, when a peer is lost while this rank may be blocked in anything. The process should end.
    std::function<void(const absl::Status&)> on_peer_lost;
  };

  // Meets the other ranks. Errors: INVALID_ARGUMENT (a rank out of range), UNAVAILABLE naming the address when the ranks do not come.
  static absl::StatusOr<std::unique_ptr<Collectives>> Connect(const Options& options);

  // Waits, without a limit of time, until all ranks are here.
  virtual absl::Status Barrier() = 0;

  // Gives rank 0's values to all ranks, in place.
  virtual absl::Status Broadcast(std::vector<at::Tensor> tensors) = 0;

  // Gives rank 0's text to the other ranks, once for each `key`.
  virtual absl::StatusOr<std::string> ShareFromRankZero(const std::string& key, const std::string& value) = 0;

  // A rank that wants the run to stop says so before a step's head calls; the ranks that ask after the same head calls all get true, so
  // they stop after the same step. May be called from one thread besides.
  virtual absl::Status RequestStop() = 0;
  virtual absl::StatusOr<bool> StopRequested() = 0;

  // For `parameters` (kept; they share memory with the network), in buckets of `bucket_bytes` that are laid out once, here, with the other
  // ranks: equal gradients give equal sums in every step. Spans of backward and of each bucket's reduction go to `trace` unless it is null.
  // Outlives neither this object nor `trace`.
  virtual absl::StatusOr<std::unique_ptr<GradientReducer>> MakeGradientReducer(std::vector<at::Tensor> parameters, int64_t bucket_bytes,
                                                                               Trace* trace) = 0;

  // Ends the run; the last call. OK: waits until all ranks leave, however long one of them still works, and watches them meanwhile; rank
  // 0's store outlives its users. Else tells the other ranks why, waits for nobody and returns `status`. Errors: a PeerLostError: a rank
  // was lost before all had done their work.
  virtual absl::Status Leave(const absl::Status& status) = 0;
};

// c10d writes stack traces to stderr about errors that it also returns: no more. Process-wide, so for main.
void SilenceCollectives();

}  // namespace myriad

#endif  // MYRIAD_WORKER_COLLECTIVES_H_
