#include "worker/collectives.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Flags.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#ifdef MYRIAD_CUDA
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "worker/peer_watch.h"
#include "worker/torch_errors.h"

C10_DECLARE_int(caffe2_log_level);

namespace myriad {
namespace {

using ProcessGroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;

// Collectives wait for as long as it takes: a verification may last for hours, and PeerWatch tells when a peer is gone.
constexpr std::chrono::hours kCollectiveTimeout{24 * 7};
constexpr absl::Duration kWatchInterval = absl::Seconds(1);

std::chrono::milliseconds ToChrono(absl::Duration duration) { return std::chrono::milliseconds(absl::ToInt64Milliseconds(duration)); }

// What c10d and Gloo throw when a peer or the store does not answer is a PeerLostError; all else is as in GuardTorch.
absl::Status GuardPeers(const char* what, const std::function<void()>& call) {
  absl::Status lost;
  absl::Status status = GuardTorch(what, [&] {
    try {
      call();
    } catch (const c10::DistError& error) {
      lost = PeerLostError(absl::StrCat(what, ": ", error.what_without_backtrace()));
    } catch (const std::runtime_error& error) {  // Gloo's; LibTorch's own errors and those of memory are no runtime_error.
      lost = PeerLostError(absl::StrCat(what, ": ", error.what()));
    }
  });
  return status.ok() ? lost : status;
}

// A connection to the store, with the errors of the house.
class TcpKeyValueStore : public KeyValueStore {
 public:
  explicit TcpKeyValueStore(c10::intrusive_ptr<c10d::Store> store) : store_(std::move(store)) {}

  absl::Status Set(const std::string& key, const std::string& value) override {
    return GuardTorch("store", [&] { store_->set(key, std::vector<uint8_t>(value.begin(), value.end())); });
  }

  absl::StatusOr<std::string> Get(const std::string& key) override {
    std::string value;
    bool found = false;
    absl::Status status = GuardTorch("store", [&] {
      found = store_->check({key});
      if (!found) return;
      const std::vector<uint8_t> bytes = store_->get(key);
      value.assign(bytes.begin(), bytes.end());
    });
    if (!status.ok()) return status;
    if (!found) return absl::NotFoundError(key);
    return value;
  }

 private:
  const c10::intrusive_ptr<c10d::Store> store_;
};

c10::intrusive_ptr<c10d::Store> OpenStore(const RankInfo& rank, absl::Duration timeout, bool first) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(rank.master_port);
  options.isServer = first && rank.rank == 0 && !rank.launcher_has_store;
  if (options.isServer && rank.store_fd >= 0) options.masterListenFd = rank.store_fd;
  options.waitWorkers = false;
  options.timeout = ToChrono(timeout);
  return c10::make_intrusive<c10d::PrefixStore>(absl::StrCat("myriad/", rank.run_id),
                                                c10::make_intrusive<c10d::TCPStore>(rank.master_address, options));
}

// The address of this machine by which it reaches the master, so that Gloo listens where the peers can connect, whatever the machine's
// name resolves to. Empty if there is no route.
std::string LocalAddressTowards(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return "";
  std::string address;
  const int fd = socket(found->ai_family, SOCK_DGRAM, 0);
  sockaddr_storage local{};
  socklen_t length = sizeof(local);
  if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0) {
    char text[NI_MAXHOST];
    if (getnameinfo(reinterpret_cast<sockaddr*>(&local), length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) address = text;
  }
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  return address;
}

// The step of a reduction that belongs to none.
constexpr int64_t kBeforeFirstStep = -1;

// Sums a bucket over the ranks; c10d's own hooks would average.
class SumHook : public c10d::CppCommHookInterface<ProcessGroupPtr> {
 public:
  SumHook(ProcessGroupPtr group, Trace* trace, const std::atomic<int64_t>* step)
      : CppCommHookInterface(std::move(group)), trace_(trace), step_(step) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    Trace::Span span;
    span.name = absl::StrCat("reduce bucket ", bucket.getIndex());
    span.track = Trace::kReductionTrack;
    span.step = step_->load();
    span.bytes = static_cast<int64_t>(bucket.getBuffer().nbytes());
    span.start_ns = Trace::Now();
    std::vector<at::Tensor> tensors = {bucket.getBufferRef()};
    c10::intrusive_ptr<c10::ivalue::Future> future = state_->allreduce(tensors)->getFuture();
    if (trace_ != nullptr && span.step != kBeforeFirstStep) {
      future->addCallback([trace = trace_, span](c10::ivalue::Future&) mutable {
        span.end_ns = Trace::Now();
        trace->Add(std::move(span));
      });
    }
    return future;
  }

 private:
  Trace* const trace_;
  const std::atomic<int64_t>* const step_;
};

class BucketReducer : public GradientReducer {
 public:
  // `group` is null for one rank. Talks to the others. May throw.
  BucketReducer(std::vector<at::Tensor> parameters, int64_t bucket_bytes, ProcessGroupPtr group, Trace* trace)
      : parameters_(std::move(parameters)), trace_(trace) {
    if (group == nullptr) return;
    // The first bucket to be ready is smaller, so that its reduction starts early.
    const int64_t first_bytes = std::min<int64_t>(bucket_bytes, c10d::kDefaultFirstBucketBytes);
    auto [buckets, limits] =
        c10d::compute_bucket_assignment_by_size(parameters_, {static_cast<size_t>(first_bytes), static_cast<size_t>(bucket_bytes)});
    // Backward makes the gradients of the last layers first.
    std::reverse(buckets.begin(), buckets.end());
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters_, std::move(buckets), group, std::vector<bool>(parameters_.size(), false), bucket_bytes,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>(), first_bytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>());
    reducer_->register_comm_hook(std::make_unique<SumHook>(std::move(group), trace_, &step_));
    SettleBuckets();
  }

  absl::Status BeginStep(int64_t step) override {
    step_ = step;
    // Not set to zero: gradients are views of the buckets, and backward writes anew.
    for (const at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
    if (reducer_ == nullptr) return absl::OkStatus();
    return GuardPeers("preparing the gradient buckets", [&] { reducer_->rebuild_buckets(); });
  }

  absl::Status Backward(const at::Tensor& outputs, const at::Tensor& gradients, bool reduce) override {
    Trace::Span span;
    span.name = "backward";
    span.step = step_;
    span.start_ns = Trace::Now();
    absl::Status status;
    if (reducer_ != nullptr && reduce) {
      status = GuardPeers("backward and gradient reduction", [&] {
        reducer_->prepare_for_backward({outputs});
        outputs.backward(gradients);
      });
    } else {
      status = GuardTorch("backward", [&] { outputs.backward(gradients); });
    }
    span.end_ns = Trace::Now();
    if (trace_ != nullptr) trace_->Add(std::move(span));
    return status;
  }

 private:
  // c10d lays its buckets out anew after its first backward pass, in the order in which the gradients came, and how three ranks' numbers
  // are rounded depends on where they lie. A pass in which zeros come from the last parameter to the first settles the layout before the
  // first step: each step then sums alike, also in a process that goes on where another stopped.
  void SettleBuckets() {
    at::AutoGradMode with_gradients(true);
    std::vector<at::Tensor> sums;
    sums.reserve(parameters_.size());
    for (const at::Tensor& parameter : parameters_) sums.push_back(parameter.sum());
    const at::Tensor all = at::stack(sums);
    reducer_->prepare_for_backward({all});
    all.backward(at::zeros_like(all));
    reducer_->rebuild_buckets();
  }

  const std::vector<at::Tensor> parameters_;
  Trace* const trace_;
  std::atomic<int64_t> step_{kBeforeFirstStep};
  std::unique_ptr<c10d::Reducer> reducer_;
};

// Rows padded to `rows` with zeros.
at::Tensor Padded(const at::Tensor& tensor, int64_t rows) {
  if (tensor.size(0) == rows) return tensor.contiguous();
  at::Tensor padded = at::zeros({rows, tensor.size(1)}, tensor.options());
  padded.narrow(0, 0, tensor.size(0)).copy_(tensor);
  return padded;
}

class C10dCollectives : public Collectives {
 public:
  explicit C10dCollectives(const Options& options) : options_(options) {}

  ~C10dCollectives() override {
    leaving_ = true;
    stop_watch_.Notify();
    if (watch_thread_.joinable()) watch_thread_.join();
    stop_clock_.Notify();
    if (clock_thread_.joinable()) clock_thread_.join();
  }

  absl::Status Open() {
    const RankInfo& rank = options_.rank;
    if (rank.rank_count == 1) return absl::OkStatus();
    absl::Status status = GuardTorch("store", [&] {
      store_ = OpenStore(rank, options_.start_timeout, /*first=*/true);
      // Its own connection: a call that waits on the first one would hold up the signs of life.
      watch_store_ = std::make_unique<TcpKeyValueStore>(OpenStore(rank, options_.peer_patience, /*first=*/false));
      auto gloo_options = c10d::ProcessGroupGloo::Options::create(ToChrono(options_.start_timeout));
      const std::string address = LocalAddressTowards(rank.master_address, rank.master_port);
      gloo_options->devices.push_back(address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                                                      : c10d::ProcessGroupGloo::createDeviceForHostname(address));
      group_ = c10::make_intrusive<c10d::ProcessGroup>(store_, rank.rank, rank.rank_count);
      gloo_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, rank.rank, rank.rank_count, std::move(gloo_options));
      gloo_->setTimeout(kCollectiveTimeout);
      group_->setBackend(at::kCPU, c10d::ProcessGroup::GLOO, gloo_);
      group_->setDefaultBackend(c10d::ProcessGroup::GLOO);
#ifdef MYRIAD_CUDA
      if (options_.device.is_cuda()) {
        auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
        nccl_options->timeout = kCollectiveTimeout;
        auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store_), rank.rank,
                                                                rank.rank_count, std::move(nccl_options));
        group_->setBackend(at::kCUDA, c10d::ProcessGroup::NCCL, nccl);
        group_->setDefaultBackend(c10d::ProcessGroup::NCCL);
      }
#endif
    });
    if (!status.ok()) {
      return absl::UnavailableError(absl::StrCat("rank ", rank.rank, " cannot meet the other ", rank.rank_count - 1, " at ",
                                                 rank.master_address, ":", rank.master_port, ": ", status.message()));
    }
    StartWatch();
    return Barrier();
  }

  int rank() const override { return options_.rank.rank; }
  int rank_count() const override { return options_.rank.rank_count; }

  absl::StatusOr<at::Tensor> AllGatherRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    if (rank_count() == 1) return rows;
    const int64_t most = *std::max_element(rank_sizes.begin(), rank_sizes.end());
    at::Tensor gathered;
    absl::Status status = GuardPeers("gathering rows of all ranks", [&] {
      std::vector<at::Tensor> input = {Padded(rows, most)};
      std::vector<std::vector<at::Tensor>> output(1);
      for (int r = 0; r < rank_count(); ++r) output[0].push_back(at::empty({most, rows.size(1)}, rows.options()));
      group_->allgather(output, input)->wait();
      for (int r = 0; r < rank_count(); ++r) output[0][r] = output[0][r].narrow(0, 0, rank_sizes[r]);
      gathered = at::cat(output[0]);
    });
    if (!status.ok()) return status;
    return gathered;
  }

  absl::StatusOr<at::Tensor> ReduceScatterRows(const at::Tensor& rows, absl::Span<const int64_t> rank_sizes) override {
    if (rank_count() == 1) return rows;
    const int64_t most = *std::max_element(rank_sizes.begin(), rank_sizes.end());
    at::Tensor own;
    absl::Status status = GuardPeers("scattering sums of rows to all ranks", [&] {
      std::vector<std::vector<at::Tensor>> input(1);
      int64_t first = 0;
      for (int r = 0; r < rank_count(); ++r) {
        input[0].push_back(Padded(rows.narrow(0, first, rank_sizes[r]), most));
        first += rank_sizes[r];
      }
      std::vector<at::Tensor> output = {at::empty({most, rows.size(1)}, rows.options())};
      group_->reduce_scatter(output, input)->wait();
      own = output[0].narrow(0, 0, rank_sizes[rank()]);
    });
    if (!status.ok()) return status;
    return own;
  }

  absl::Status Barrier() override {
    if (rank_count() == 1) return absl::OkStatus();
    return GuardPeers("waiting for all ranks", [&] { gloo_->barrier()->wait(); });
  }

  absl::Status Broadcast(std::vector<at::Tensor> tensors) override {
    if (rank_count() == 1) return absl::OkStatus();
    constexpr size_t kBufferBytes = size_t{64} << 20;
    return GuardPeers("broadcasting rank 0's values", [&] { c10d::broadcast_coalesced(group_, tensors, kBufferBytes); });
  }

  absl::StatusOr<std::string> ShareFromRankZero(const std::string& key, const std::string& value) override {
    if (rank_count() == 1) return value;
    const std::string full_key = absl::StrCat("shared/", key);
    std::string shared = value;
    absl::Status status = GuardPeers("sharing a value of rank 0", [&] {
      if (rank() == 0) {
        store_->set(full_key, std::vector<uint8_t>(value.begin(), value.end()));
      } else {
        store_->wait({full_key}, kCollectiveTimeout);
        const std::vector<uint8_t> bytes = store_->get(full_key);
        shared.assign(bytes.begin(), bytes.end());
      }
    });
    if (!status.ok()) return status;
    return shared;
  }

  absl::Status RequestStop() override {
    stop_requested_ = true;
    if (rank_count() == 1) return absl::OkStatus();
    return GuardPeers("store", [&] { store_->set("stop", std::vector<uint8_t>{1}); });
  }

  absl::StatusOr<bool> StopRequested() override {
    if (rank_count() == 1 || stop_requested_) return stop_requested_.load();
    bool requested = false;
    absl::Status status = GuardPeers("store", [&] { requested = store_->check({"stop"}); });
    if (!status.ok()) return status;
    return requested;
  }

  absl::StatusOr<std::unique_ptr<GradientReducer>> MakeGradientReducer(std::vector<at::Tensor> parameters, int64_t bucket_bytes,
                                                                       Trace* trace) override {
    std::unique_ptr<GradientReducer> reducer;
    absl::Status status = GuardPeers("making the gradient reducer", [&] {
      reducer = std::make_unique<BucketReducer>(std::move(parameters), bucket_bytes, group_, trace);
    });
    if (!status.ok()) return status;
    return reducer;
  }

  absl::Status Leave(const absl::Status& status) override {
    if (rank_count() == 1) return status;
    // Watched like every other wait: rank 0 may save for an hour, and may be lost while it does.
    absl::Status left = status.ok() ? Barrier() : status;
    leaving_ = true;
    last_round_ns_ = Trace::Now();
    if (!left.ok()) {
      TcpKeyValueStore store(store_);
      PeerWatch::Report(rank(), left, &store).IgnoreError();
      // The store ends with rank 0: the others get the time of two rounds to read why.
      if (rank() == 0) absl::SleepFor(2 * kWatchInterval);
      return left;
    }
    // All work is done, so what goes wrong from here on is nobody's loss. A rank tells that it watches no more; then the store may go.
    GuardTorch("leaving", [&] {
      store_->add("left", 1);
      if (rank() != 0) return;
      // The barrier shows that all are on their way out: a moment at most.
      const absl::Time deadline = absl::Now() + options_.peer_patience;
      while (store_->add("left", 0) < rank_count() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
    }).IgnoreError();
    return absl::OkStatus();
  }

 private:
  void StartWatch() {
    last_round_ns_ = Trace::Now();
    watch_thread_ = std::thread([this] {
      PeerWatch watch({rank(), rank_count(), options_.peer_patience}, watch_store_.get());
      do {
        absl::Status status = watch.Round(absl::Now());
        last_round_ns_ = Trace::Now();
        if (leaving_) return;
        if (!status.ok()) return TellLost(status);
      } while (!stop_watch_.WaitForNotificationWithTimeout(kWatchInterval));
    });
    // A round itself never returns when the machine of rank 0 stands still, nor does a word to its store on the way out: this thread has
    // only a clock, and runs to the end.
    clock_thread_ = std::thread([this] {
      while (!stop_clock_.WaitForNotificationWithTimeout(kWatchInterval)) {
        if (absl::Nanoseconds(Trace::Now() - last_round_ns_) > options_.peer_patience + kWatchInterval) {
          return TellLost(PeerLostError("rank 0 was lost: its store does not answer"));
        }
      }
    });
  }

  void TellLost(const absl::Status& status) {
    if (!told_.exchange(true) && options_.on_peer_lost) options_.on_peer_lost(status);
  }

  const Options options_;
  c10::intrusive_ptr<c10d::Store> store_;
  std::unique_ptr<TcpKeyValueStore> watch_store_;
  ProcessGroupPtr group_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo_;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> leaving_{false};
  std::atomic<bool> told_{false};
  std::atomic<int64_t> last_round_ns_{0};
  absl::Notification stop_watch_;
  absl::Notification stop_clock_;
  std::thread watch_thread_;
  std::thread clock_thread_;
};

}  // namespace

void SilenceCollectives() { FLAGS_caffe2_log_level = c10::GLOG_FATAL; }

absl::StatusOr<std::unique_ptr<Collectives>> Collectives::Connect(const Options& options) {
  const RankInfo& rank = options.rank;
  if (rank.rank_count < 1 || rank.rank < 0 || rank.rank >= rank.rank_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("RANK is ", rank.rank, "; it must be in [0, WORLD_SIZE) with WORLD_SIZE ", rank.rank_count));
  }
  auto collectives = std::make_unique<C10dCollectives>(options);
  absl::Status status = collectives->Open();
  if (!status.ok()) return status;
  return collectives;
}

}  // namespace myriad
