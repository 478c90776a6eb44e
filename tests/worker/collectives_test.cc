// Several processes on loopback: this binary starts itself once a rank with `--case NAME`; a child's exit status is its verdict.

#include "worker/collectives.h"

#include <arpa/inet.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/peer_watch.h"

extern char** environ;

namespace myriad {
namespace {

constexpr int kPeerLostExit = 3;
constexpr absl::Duration kPatience = absl::Seconds(4);

at::Tensor Random(at::IntArrayRef shape, uint64_t seed) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  return tensor.normal_(0.0, 1.0, at::make_generator<at::CPUGeneratorImpl>(seed));
}

// What a child checks: the first failure is printed and ends the process.
void Require(bool condition, const char* what, int line) {
  if (condition) return;
  std::fprintf(stderr, "line %d: %s\n", line, what);
  _exit(1);
}
#define REQUIRE(condition) Require((condition), #condition, __LINE__)

std::vector<at::Tensor> MakeLayers(int count, int64_t width) {
  std::vector<at::Tensor> layers;
  for (int i = 0; i < count; ++i) {
    layers.push_back(Random({width, width}, 100 + i).mul_(1.0 / std::sqrt(static_cast<double>(width))).set_requires_grad(true));
  }
  return layers;
}

at::Tensor RunLayers(const std::vector<at::Tensor>& layers, at::Tensor x) {
  for (const at::Tensor& layer : layers) x = at::tanh(at::mm(x, layer));
  return x;
}

// The gradients that the ranks' parts of a batch give, summed in buckets, are those of one process with the whole batch.
void GradientsAreSummed(Collectives* ranks) {
  constexpr int64_t kWidth = 32;
  constexpr int64_t kBatch = 24;
  const std::vector<at::Tensor> layers = MakeLayers(5, kWidth);
  const std::vector<at::Tensor> reference = MakeLayers(5, kWidth);
  Trace trace;
  auto reducer = ranks->MakeGradientReducer(layers, /*bucket_bytes=*/kWidth * kWidth * 4, &trace);
  REQUIRE(reducer.ok());
  for (int64_t step = 0; step < 4; ++step) {
    const at::Tensor x = Random({kBatch, kWidth}, 1 + step);
    const at::Tensor g = Random({kBatch, kWidth}, 50 + step);
    for (const at::Tensor& layer : reference) layer.mutable_grad().reset();
    RunLayers(reference, x).backward(g);
    REQUIRE((*reducer)->BeginStep(step).ok());
    // Uneven parts, in two chunks, of which only the last one is reduced.
    const int64_t first = kBatch * ranks->rank() * ranks->rank() / (ranks->rank_count() * ranks->rank_count());
    const int64_t last = kBatch * (ranks->rank() + 1) * (ranks->rank() + 1) / (ranks->rank_count() * ranks->rank_count());
    const int64_t middle = (first + last) / 2;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{first, middle}, {middle, last}}) {
      const at::Tensor out = RunLayers(layers, x.narrow(0, begin, end - begin));
      REQUIRE((*reducer)->Backward(out, g.narrow(0, begin, end - begin), end == last && begin == middle).ok());
    }
    for (size_t i = 0; i < layers.size(); ++i) REQUIRE(at::allclose(layers[i].grad(), reference[i].grad(), 1e-4, 1e-5));
  }
  int64_t reductions = 0;
  for (const Trace::Span& span : trace.spans()) reductions += span.track == Trace::kReductionTrack && span.step == 3;
  REQUIRE(reductions >= 3);
}

// Three numbers are summed in another order elsewhere in a bucket: the first step of a process must have the buckets of all later ones.
void EveryStepSumsAlike(Collectives* ranks) {
  constexpr int64_t kWidth = 17;
  std::vector<at::Tensor> layers = MakeLayers(7, kWidth);
  // Gradients come in another order than the parameters stand in.
  std::vector<at::Tensor> parameters = {layers[3], layers[0], layers[6], layers[1], layers[5], layers[2], layers[4]};
  auto reducer = ranks->MakeGradientReducer(parameters, /*bucket_bytes=*/3 * kWidth * kWidth * 4, nullptr);
  REQUIRE(reducer.ok());
  const at::Tensor x = Random({5, kWidth}, ranks->rank());
  std::vector<at::Tensor> first;
  for (int64_t step = 0; step < 3; ++step) {
    REQUIRE((*reducer)->BeginStep(step).ok());
    const at::Tensor out = RunLayers(layers, x);
    REQUIRE((*reducer)->Backward(out, Random({5, kWidth}, 50 + ranks->rank()), true).ok());
    for (size_t i = 0; i < layers.size(); ++i) {
      if (step == 0) first.push_back(layers[i].grad().clone());
      REQUIRE(at::equal(layers[i].grad(), first[i]));
    }
  }
}

// The first bucket is on its way while the gradient of the first layer, the last of backward, is not there yet.
void ReductionStartsBeforeBackwardEnds(Collectives* ranks) {
  constexpr int64_t kWidth = 256;
  const std::vector<at::Tensor> layers = MakeLayers(12, kWidth);
  Trace trace;
  auto reducer = ranks->MakeGradientReducer(layers, /*bucket_bytes=*/kWidth * kWidth * 4, &trace);
  REQUIRE(reducer.ok());
  int64_t first_layer_ready_ns = 0;
  layers[0].register_hook([&](const at::Tensor& gradient) {
    first_layer_ready_ns = Trace::Now();
    return gradient;
  });
  const at::Tensor x = Random({64, kWidth}, 1);
  for (int64_t step = 0; step < 3; ++step) {
    REQUIRE((*reducer)->BeginStep(step).ok());
    const at::Tensor out = RunLayers(layers, x);
    REQUIRE((*reducer)->Backward(out, at::ones_like(out), true).ok());
    int64_t first_start = INT64_MAX, backward_end = 0;
    for (const Trace::Span& span : trace.spans()) {
      if (span.step != step) continue;
      if (span.track == Trace::kReductionTrack) {
        first_start = std::min(first_start, span.start_ns);
        REQUIRE(span.end_ns > span.start_ns);
      } else {
        backward_end = span.end_ns;
      }
    }
    REQUIRE(first_start < first_layer_ready_ns);
    REQUIRE(first_layer_ready_ns < backward_end);
  }
}

void RowsAreGatheredAndScattered(Collectives* ranks) {
  const int count = ranks->rank_count();
  std::vector<int64_t> sizes;
  std::vector<at::Tensor> parts;
  for (int r = 0; r < count; ++r) {
    sizes.push_back(r == 1 ? 0 : 3 + 2 * r);
    parts.push_back(Random({sizes[r], 5}, 10 + r));
  }
  auto all = ranks->AllGatherRows(parts[ranks->rank()], sizes);
  REQUIRE(all.ok());
  REQUIRE(at::equal(*all, at::cat(parts)));

  const int64_t rows = all->size(0);
  at::Tensor sum = at::zeros({rows, 5});
  for (int r = 0; r < count; ++r) sum += Random({rows, 5}, 90 + r);
  auto own = ranks->ReduceScatterRows(Random({rows, 5}, 90 + ranks->rank()), sizes);
  REQUIRE(own.ok());
  int64_t first = 0;
  for (int r = 0; r < ranks->rank(); ++r) first += sizes[r];
  REQUIRE(own->size(0) == sizes[ranks->rank()]);
  REQUIRE(at::allclose(*own, sum.narrow(0, first, sizes[ranks->rank()]), 1e-5, 1e-6));
}

void RankZerosValuesReachAll(Collectives* ranks) {
  auto shared = ranks->ShareFromRankZero("incarnation", ranks->rank() == 0 ? "17" : "");
  REQUIRE(shared.ok() && *shared == "17");
  const uint64_t own_seed = ranks->rank();
  const at::Tensor dense = Random({3, 4}, own_seed);
  const at::Tensor strided = Random({2, 3, 4, 4}, own_seed).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor number = at::full({}, ranks->rank(), at::kLong);
  REQUIRE(ranks->Broadcast({dense, strided, number}).ok());
  REQUIRE(at::equal(dense, Random({3, 4}, 0)));
  REQUIRE(at::equal(strided, Random({2, 3, 4, 4}, 0)));
  REQUIRE(number.item<int64_t>() == 0);
}

// The last rank asks before a collective that stands for the head's call; all see it after.
void AStopIsSeenByAll(Collectives* ranks) {
  REQUIRE(!*ranks->StopRequested());
  REQUIRE(ranks->Barrier().ok());
  if (ranks->rank() == ranks->rank_count() - 1) REQUIRE(ranks->RequestStop().ok());
  REQUIRE(ranks->Barrier().ok());
  REQUIRE(*ranks->StopRequested());
}

// Rank 1 dies; the others, in a collective, end with the documented code.
void APeerDies(Collectives* ranks) {
  if (ranks->rank() == 1) kill(getpid(), SIGKILL);
  const absl::Status status = ranks->Barrier();
  REQUIRE(IsPeerLost(status));
  _exit(kPeerLostExit);
}

// Rank 1 stops without closing anything; the others wait for something that has nothing to do with c10d.
void APeerStandsStill(Collectives* ranks) {
  if (ranks->rank() == 1) kill(getpid(), SIGSTOP);
  for (;;) pause();
}

// Rank 1 fails and says why.
void APeerFails(Collectives* ranks) {
  if (ranks->rank() == 1) {
    REQUIRE(absl::IsDataLoss(ranks->Leave(absl::DataLossError("shard 0 is gone"))));
    _exit(1);
  }
  for (;;) pause();
}

// Rank 0 has work left when the others leave, for twice the time after which a silent peer is lost: lateness is the case.
void RankZeroIsLate(Collectives* ranks) {
  if (ranks->rank() == 0) absl::SleepFor(2 * kPatience);
}

// Rank 0 dies, or stops without closing anything, while the others leave.
void RankZeroDiesLate(Collectives* ranks) {
  if (ranks->rank() == 0) kill(getpid(), SIGKILL);
}
void RankZeroStandsStillLate(Collectives* ranks) {
  if (ranks->rank() == 0) kill(getpid(), SIGSTOP);
}

// Rank 1 dies; the others notice it in backward, where the buckets are reduced.
void APeerDiesInBackward(Collectives* ranks) {
  const std::vector<at::Tensor> layers = MakeLayers(3, 16);
  auto reducer = ranks->MakeGradientReducer(layers, /*bucket_bytes=*/1 << 10, nullptr);
  REQUIRE(reducer.ok() && (*reducer)->BeginStep(0).ok());
  const at::Tensor out = RunLayers(layers, Random({4, 16}, 1));
  if (ranks->rank() == 1) kill(getpid(), SIGKILL);
  REQUIRE(IsPeerLost((*reducer)->Backward(out, Random({4, 16}, 2), /*reduce=*/true)));
  _exit(kPeerLostExit);
}

// A mistake of one rank alone, in a call that talks to the others too.
void AWrongShapeIsNoLostPeer(Collectives* ranks) {
  const std::vector<at::Tensor> layers = MakeLayers(3, 16);
  auto reducer = ranks->MakeGradientReducer(layers, /*bucket_bytes=*/1 << 10, nullptr);
  REQUIRE(reducer.ok() && (*reducer)->BeginStep(0).ok());
  const at::Tensor out = RunLayers(layers, Random({4, 16}, 1));
  const absl::Status status = (*reducer)->Backward(out, Random({5, 16}, 2), /*reduce=*/true);
  REQUIRE(absl::IsInternal(status) && !IsPeerLost(status));
}

using Case = void (*)(Collectives*);
const std::map<std::string, Case>& Cases() {
  static const auto* cases = new std::map<std::string, Case>{
      {"sum", GradientsAreSummed},
      {"alike", EveryStepSumsAlike},
      {"overlap", ReductionStartsBeforeBackwardEnds},
      {"rows", RowsAreGatheredAndScattered},
      {"share", RankZerosValuesReachAll},
      {"stop", AStopIsSeenByAll},
      {"dies", APeerDies},
      {"still", APeerStandsStill},
      {"fails", APeerFails},
      {"late", RankZeroIsLate},
      {"dies late", RankZeroDiesLate},
      {"still late", RankZeroStandsStillLate},
      {"dies in backward", APeerDiesInBackward},
      {"shape", AWrongShapeIsNoLostPeer},
  };
  return *cases;
}

int RunRank(const std::string& name, const RankInfo& rank) {
  at::set_num_threads(1);
  SilenceCollectives();
  Collectives::Options options;
  options.rank = rank;
  options.peer_patience = kPatience;
  options.on_peer_lost = [](const absl::Status& status) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    _exit(kPeerLostExit);
  };
  auto ranks = Collectives::Connect(options);
  if (!ranks.ok()) {
    std::fprintf(stderr, "%s\n", ranks.status().ToString().c_str());
    return 1;
  }
  Cases().at(name)(ranks->get());
  const absl::Status left = (*ranks)->Leave(absl::OkStatus());
  return left.ok() ? 0 : IsPeerLost(left) ? kPeerLostExit : 1;
}

// A socket with a port of 127.0.0.1: nobody else gets it while the object lives.
struct Port {
  explicit Port(bool listens) : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_TRUE(!listens || listen(fd, SOMAXCONN) == 0);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
    number = ntohs(address.sin_port);
  }
  ~Port() { close(fd); }
  int fd;
  int number = 0;
};

// A store that a launcher holds, and the run that meets there.
struct LauncherStore {
  int port = 0;
  std::string run_id;
};

// Starts all ranks of a case; returns their exit codes (128 + number for a signal). A rank that was stopped is killed once all others
// ended. Without `launcher`, rank 0 has the store.
std::vector<int> RunCase(const std::string& name, int count, int stopped_rank = -1, const LauncherStore* launcher = nullptr) {
  // Rank 0 alone inherits the socket that its store accepts at, as from `myriad train`.
  auto store = std::make_unique<Port>(/*listens=*/true);
  const std::string port = std::to_string(launcher != nullptr ? launcher->port : store->number);
  const std::string run_id = launcher != nullptr ? launcher->run_id : "";
  std::vector<pid_t> children;
  for (int r = 0; r < count; ++r) {
    const std::string rank = std::to_string(r), ranks = std::to_string(count), fd = std::to_string(r == 0 ? store->fd : -1);
    const char* argv[] = {"/proc/self/exe", "--case",   name.c_str(),   rank.c_str(), ranks.c_str(),
                          port.c_str(),     fd.c_str(), run_id.c_str(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    // Onto itself: open in the child.
    if (r == 0) posix_spawn_file_actions_adddup2(&actions, store->fd, store->fd);
    pid_t child = 0;
    EXPECT_EQ(posix_spawn(&child, "/proc/self/exe", &actions, nullptr, const_cast<char**>(argv), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    children.push_back(child);
    if (r == 0) store.reset();
  }
  std::vector<int> codes(count, -1);
  const auto wait_for = [&](int r) {
    int status = 0;
    waitpid(children[r], &status, 0);
    codes[r] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  };
  for (int r = 0; r < count; ++r) {
    if (r != stopped_rank) wait_for(r);
  }
  if (stopped_rank >= 0) {
    kill(children[stopped_rank], SIGKILL);
    wait_for(stopped_rank);
  }
  return codes;
}

TEST(CollectivesTest, BucketsSumTheGradientsOfAllRanks) {
  EXPECT_EQ(RunCase("sum", 2), std::vector<int>({0, 0}));
  EXPECT_EQ(RunCase("sum", 3), std::vector<int>({0, 0, 0}));
}

TEST(CollectivesTest, EqualGradientsGiveEqualSumsInEveryStep) { EXPECT_EQ(RunCase("alike", 3), std::vector<int>({0, 0, 0})); }

TEST(CollectivesTest, ABucketsReductionStartsBeforeBackwardEnds) { EXPECT_EQ(RunCase("overlap", 2), std::vector<int>({0, 0})); }

TEST(CollectivesTest, RowsOfUnevenRanksAreGatheredAndTheirSumsScattered) {
  EXPECT_EQ(RunCase("rows", 2), std::vector<int>({0, 0}));
  EXPECT_EQ(RunCase("rows", 3), std::vector<int>({0, 0, 0}));
}

TEST(CollectivesTest, ValuesOfRankZeroReachAllRanks) { EXPECT_EQ(RunCase("share", 3), std::vector<int>({0, 0, 0})); }

// As torchrun has one: a run that it starts again meets in the same store.
TEST(CollectivesTest, ALaunchersStoreServesOneRunAfterAnother) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  const c10d::TCPStore store("127.0.0.1", options);
  for (const char* run_id : {"0", "1"}) {
    const LauncherStore launcher = {store.getPort(), run_id};
    EXPECT_EQ(RunCase("stop", 2, /*stopped_rank=*/-1, &launcher), std::vector<int>({0, 0}));
  }
}

TEST(CollectivesTest, AllRanksSeeARequestToStopAfterTheSameStep) { EXPECT_EQ(RunCase("stop", 3), std::vector<int>({0, 0, 0})); }

TEST(CollectivesTest, APeerThatDiesEndsTheOthersWithTheDocumentedCode) {
  EXPECT_EQ(RunCase("dies", 3), std::vector<int>({3, 128 + SIGKILL, 3}));
}

TEST(CollectivesTest, APeerThatStandsStillEndsTheOthersWhateverTheyWaitFor) {
  EXPECT_EQ(RunCase("still", 3, /*stopped_rank=*/1), std::vector<int>({3, 128 + SIGKILL, 3}));
}

TEST(CollectivesTest, APeerThatFailsEndsTheOthers) { EXPECT_EQ(RunCase("fails", 3), std::vector<int>({3, 1, 3})); }

TEST(CollectivesTest, RanksWaitForOneThatStillWorksHoweverLong) { EXPECT_EQ(RunCase("late", 3), std::vector<int>({0, 0, 0})); }

TEST(CollectivesTest, RanksThatLeaveLearnThatRankZeroIsLostBeforeItsWorkIsDone) {
  EXPECT_EQ(RunCase("dies late", 3), std::vector<int>({128 + SIGKILL, 3, 3}));
  EXPECT_EQ(RunCase("still late", 3, /*stopped_rank=*/0), std::vector<int>({128 + SIGKILL, 3, 3}));
}

TEST(CollectivesTest, BackwardTellsALostPeerFromAMistake) {
  EXPECT_EQ(RunCase("dies in backward", 2), std::vector<int>({3, 128 + SIGKILL}));
  EXPECT_EQ(RunCase("shape", 2), std::vector<int>({0, 0}));
}

TEST(CollectivesTest, OneRankNeedsNobody) {
  auto ranks = Collectives::Connect({});
  ASSERT_TRUE(ranks.ok());
  EXPECT_TRUE((*ranks)->Barrier().ok());
  EXPECT_EQ(*(*ranks)->ShareFromRankZero("a", "b"), "b");
  const at::Tensor rows = Random({3, 2}, 1);
  EXPECT_TRUE(at::equal(*(*ranks)->AllGatherRows(rows, {3}), rows));
  EXPECT_TRUE(at::equal(*(*ranks)->ReduceScatterRows(rows, {3}), rows));
  EXPECT_TRUE((*ranks)->Leave(absl::OkStatus()).ok());
}

TEST(CollectivesTest, ARankOutOfRangeIsRefused) {
  Collectives::Options options;
  options.rank.rank = 2;
  options.rank.rank_count = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(Collectives::Connect(options).status()));
}

TEST(CollectivesTest, RanksThatDoNotComeAreNamedByTheAddress) {
  Collectives::Options options;
  options.rank.rank = 1;
  options.rank.rank_count = 2;
  const Port silent(/*listens=*/false);
  options.rank.master_port = silent.number;
  options.start_timeout = absl::Seconds(1);
  const absl::Status status = Collectives::Connect(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_NE(status.message().find(absl::StrCat("127.0.0.1:", options.rank.master_port)), std::string::npos) << status;
}

}  // namespace

int RunRankOfCase(char** argv) {
  RankInfo rank;
  const bool all = absl::SimpleAtoi(argv[3], &rank.rank) && absl::SimpleAtoi(argv[4], &rank.rank_count) &&
                   absl::SimpleAtoi(argv[5], &rank.master_port) && absl::SimpleAtoi(argv[6], &rank.store_fd);
  rank.run_id = argv[7];
  rank.launcher_has_store = !rank.run_id.empty();
  return all ? RunRank(argv[2], rank) : 2;
}

}  // namespace myriad

int main(int argc, char** argv) {
  if (argc == 8 && std::string(argv[1]) == "--case") _exit(myriad::RunRankOfCase(argv));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
